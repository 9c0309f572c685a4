/** A server that was started. */
export interface Server {
  readonly pid: number
  readonly port: number
  readonly url: string
}
export function freePort(): Promise<number>
export class Servers {
  readonly stopped: boolean
  redis(more?: Record<string, string | number>): Promise<Server>
  redisCluster(nodes?: number): Promise<Server[]>
  postgres(more?: Record<string, string | number>): Promise<Server>
  rabbitmq(at?: { readonly port: number; readonly folder?: string }): Promise<Server & { readonly folder: string }>
  stop(): Promise<void>
}
