export {
  CrashesBrokeError,
  exploreCrashes,
  type BrokenRun,
  type CrashReport,
  type ExploreOptions,
  type ExploredPlan,
} from './explore-crashes.js'
export { ManualClock, settle, type ManualClockOptions } from './manual-clock.js'
export type { SimulatedTransaction } from './saga-world.js'
export { scenario, type Expectation, type Given, type When } from './scenario.js'
export { seededRandom } from './seeded-random.js'
export {
  simulate,
  type PlannedFailure,
  type PlannedSignal,
  type SagaPoint,
  type SagaUnderTest,
  type SimulateOptions,
  type SimulatedSaga,
} from './simulate.js'
