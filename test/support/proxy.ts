import { createConnection, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/** What becomes of bytes on their way, and of connections. */
export type Line = 'open' | 'silent' | 'cut'

/** A line to a server on loopback that can be cut, fall silent with its connections standing, and be laid to another server. */
export class Proxy {
  readonly #server: Server
  readonly #pairs = new Set<readonly [Socket, Socket]>()
  #line: Line = 'open'
  #port: number

  private constructor(server: Server, port: number) {
    this.#server = server
    this.#port = port
    server.on('connection', (socket) => this.#connect(socket))
  }

  static async to(port: number): Promise<Proxy> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new Proxy(server, port)
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /**
   * `silent`: connections stand, new ones are taken too, and no byte passes, until the line is open: then they end, as when a
   * firewall has forgotten them. `cut`: all end at once, and new ones too.
   */
  set(line: Line): void {
    const wasSilent = this.#line === 'silent'
    this.#line = line
    if (line === 'cut' || (line === 'open' && wasSilent)) this.#end()
    for (const sockets of this.#pairs) for (const socket of sockets) if (line === 'silent') socket.pause()
  }

  /** Leads to another server from now on; connections to the old one end. */
  lead(port: number): void {
    this.#port = port
    this.#end()
  }

  close(): void {
    this.#server.close()
    this.#end()
  }

  #connect(near: Socket): void {
    if (this.#line === 'cut') return void near.destroy()
    const far = createConnection(this.#port, '127.0.0.1')
    const pair = [near, far] as const
    this.#pairs.add(pair)
    for (const [one, other] of [pair, [far, near]] as const) {
      one.setNoDelay(true)
      one.on('data', (bytes) => other.write(bytes))
      one.on('error', () => {})
      one.on('close', () => {
        other.destroy()
        this.#pairs.delete(pair)
      })
      if (this.#line === 'silent') one.pause()
    }
  }

  #end(): void {
    for (const sockets of this.#pairs) for (const socket of sockets) socket.destroy()
  }
}
