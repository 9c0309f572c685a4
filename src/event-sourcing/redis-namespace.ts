/** Stands before every key of a log and what belongs to it, unless the user says otherwise. */
export const DEFAULT_NAMESPACE = 'holdfast:{events}:'
