export { ManualClock, settle, type ManualClockOptions } from './manual-clock.js'
export { scenario, type Expectation, type Given } from './scenario.js'
export { seededRandom } from './seeded-random.js'
