export { isHoldfastError } from '../kernel/errors.js'
export {
  HttpStatusError,
  parseRateLimit,
  throwForStatus,
  type HeadersLike,
  type ParseOptions,
  type RateLimitInfo,
} from './client.js'
export { addressKey, type ClientAddressOptions } from './client-address.js'
export { expressErrorHandler, expressRateLimit, type Next } from './express.js'
export { fastifyErrorHandler, fastifyRateLimit, type FastifyReplyLike, type FastifyRequestLike } from './fastify.js'
export {
  fetchErrorHandler,
  fetchRateLimit,
  problemResponse,
  type FetchHandler,
  type FetchRateLimitOptions,
} from './fetch.js'
export type { RateLimitOptions, Refusal } from './gate.js'
export { honoErrorHandler, honoRateLimit, type HonoContextLike, type HonoRateLimitOptions } from './hono.js'
export { koaErrorHandler, koaRateLimit, type KoaContextLike, type KoaMiddleware } from './koa.js'
export { nodeErrorHandler, nodeRateLimit, type NodeRequest, type NodeResponse } from './node.js'
export { ProblemError, type Problem, type ProblemDetails, type ProblemMembers, type ProblemOptions } from './problem.js'
export { problemOf, type ErrorHandlerOptions, type ReportedProblem } from './problem-of.js'
export type { RateLimitPolicy, ServiceLimit } from './rate-limit-draft.js'
