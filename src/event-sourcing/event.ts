/** Something that happened, in the past tense: `{ type: 'OrderPlaced', data: { … } }`. Never changed once recorded. */
export interface Event<T extends string = string, D = unknown> {
  /** What happened. Not empty; any string. */
  readonly type: T
  /** What is known about it. Whatever the JSON codec keeps: JSON, `Date`, `Map`, `Set`, `bigint`, bytes, … */
  readonly data: D
  /** A name of its own for the event. @defaultValue a random UUID, drawn when it is appended */
  readonly id?: string | undefined
  /** What the event is about beside its stream, for a {@link Query}: `['customer:7']`. @defaultValue none */
  readonly tags?: readonly string[] | undefined
  /** Who, why, on whose behalf. What `append` was given as metadata is put under it, key by key. @defaultValue `{}` */
  readonly metadata?: Metadata | undefined
}

/** What is known about an event beside what happened: a plain object. Other keys are the user's own. */
export interface Metadata {
  /** The same for everything that one request from outside set off. */
  readonly correlationId?: string | undefined
  /** Id of the message or event that led to this one. */
  readonly causationId?: string | undefined
  /** Whatever else the user wants to know. */
  readonly [key: string]: unknown
}

/** What the store adds when it records an event. */
export interface Envelope {
  /** The event's own name, as given or drawn. */
  readonly id: string
  /** Name of the stream, as given to `append`. */
  readonly streamId: string
  /** Place in the stream: 1, 2, 3, … without gaps. */
  readonly version: number
  /** Place in the whole log: rises, also within each stream, and may leave gaps. Integer ≥ 1. */
  readonly position: number
  /** When it was recorded, by the store's clock, in whole milliseconds. Never decreases within a stream. */
  readonly recordedAt: Date
  /** `{}` when none was given. */
  readonly metadata: Metadata
}

/** An event as it was recorded. `tags` is absent when there are none. `switch (e.type)` narrows `e.data`. */
export type Recorded<E extends Event = Event> = E extends Event ? Readonly<Omit<E, keyof Envelope>> & Envelope : never
