export { ManualClock, settle, type ManualClockOptions } from './manual-clock.js'
export { seededRandom } from './seeded-random.js'
