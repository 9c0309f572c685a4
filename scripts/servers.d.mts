/** A server that was started. */
export interface Server {
  readonly pid: number
  readonly port: number
  readonly url: string
}
export function freePort(): Promise<number>
/** A RabbitMQ that was started. */
export interface Broker extends Server {
  readonly folder: string
  /** What `rabbitmqctl` prints. */
  ctl(...args: string[]): Promise<string>
}
export class Servers {
  readonly stopped: boolean
  /** By name, the end of what each server has printed. */
  readonly output: ReadonlyMap<string, string>
  redis(more?: Record<string, string | number>): Promise<Server>
  redisCluster(nodes?: number): Promise<Server[]>
  postgres(more?: Record<string, string | number>): Promise<Server>
  rabbitmq(at?: { readonly port?: number; readonly folder?: string; readonly settings?: string }): Promise<Broker>
  stop(): Promise<void>
}
