export function onPath(...names: string[]): string | undefined
export function postgresBin(): string | undefined
export function redisServer(): string | undefined
export function rabbitmqServer(): string | undefined
export function chromium(): string | undefined
