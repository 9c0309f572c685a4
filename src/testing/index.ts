export { ManualClock, settle, type ManualClockOptions } from './manual-clock.js'
export { scenario, type Expectation, type Given, type When } from './scenario.js'
export { seededRandom } from './seeded-random.js'
