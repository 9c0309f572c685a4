import { describe } from 'vitest'
import { adapterContract } from './contract.js'
import { frameworks } from './servers.js'

// The same laws for every framework, over real HTTP on the loopback.
describe.each(frameworks.map((framework) => [framework.name, framework] as const))('%s', (_, framework) =>
  adapterContract(framework),
)
