import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

// The code in README.md and docs/ is compiled, and that of the README and the examples is run.

const folder = 'test/.docs'
const pages = [
  'README.md',
  ...readdirSync('docs')
    .filter((f) => f.endsWith('.md'))
    .map((f) => join('docs', f)),
]
const examples = readdirSync('examples').filter((file) => file.endsWith('.ts'))

const blocksOf = (page: string): string[] =>
  [...readFileSync(page, 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code]) => code ?? '')

/**
 * One module of all blocks of a page. A block sees the names of those before it and may define them anew, as a reader
 * takes it: each stands in a scope inside the one before. Imports are merged, and they, types and `declare` stand at the top.
 */
function moduleOf(blocks: readonly string[]): string {
  const imports = new Map<string, Set<string>>()
  const whole = new Set<string>()
  const declared = new Set<string>()
  const bodies = blocks.map((code) => {
    const file = ts.createSourceFile('block.ts', code, ts.ScriptTarget.Latest, true)
    let body = code
    for (const statement of file.statements) {
      const modifiers = ts.canHaveModifiers(statement) ? ts.getModifiers(statement) : undefined
      const isDeclared = modifiers?.some(({ kind }) => kind === ts.SyntaxKind.DeclareKeyword) ?? false
      if (!isDeclared && !ts.isInterfaceDeclaration(statement) && !ts.isTypeAliasDeclaration(statement)) continue
      body = body.replace(statement.getText(), '')
      declared.add(`${statement.getText()};`)
    }
    for (const statement of file.statements.filter(ts.isImportDeclaration)) {
      body = body.replace(statement.getText(), '')
      const named = statement.importClause?.namedBindings
      const from = statement.moduleSpecifier.getText()
      if (!named || !ts.isNamedImports(named) || statement.importClause?.name) whole.add(statement.getText())
      else {
        const names = imports.get(from) ?? new Set()
        for (const element of named.elements) names.add(element.getText().replace(/^type /, ''))
        imports.set(from, names)
      }
    }
    return body
  })
  const head = [...whole, ...[...imports].map(([from, names]) => `import { ${[...names].join(', ')} } from ${from}`)]
  return [...head, ...declared, ...bodies.map((body) => `{\n${body}`), '}'.repeat(bodies.length), 'export {}'].join(
    '\n',
  )
}

beforeAll(() => mkdirSync(folder, { recursive: true }))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('the code of every page compiles', () => {
  const options = { noEmit: true, noUnusedLocals: false, noUnusedParameters: false, verbatimModuleSyntax: false }
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: '../../tsconfig.json', compilerOptions: options, include: ['*.ts'] }),
  )
  for (const page of pages) writeFileSync(join(folder, `${basename(page, '.md')}.ts`), moduleOf(blocksOf(page)))
  let errors = ''
  try {
    execFileSync(process.execPath, ['node_modules/ts7/bin/tsc', '-p', folder], { encoding: 'utf8' })
  } catch (error) {
    errors = (error as { stdout: string }).stdout
  }
  expect(errors).toBe('')
})

test.each([
  ['guarantee', 'docs/guarantees.md'],
  ['defect of a peer', 'docs/resilience-peers.md'],
  ['defect of another rate limiter', 'docs/rate-limit-peers.md'],
  ['defect of another cache', 'docs/cache-peers.md'],
  ['defect of another saga library', 'docs/saga-peers.md'],
  ['defect of another messaging library', 'docs/messaging-peers.md'],
])('every %s names tests that exist', (_, page) => {
  const sources = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const all = sources.map((file) => readFileSync(join('test', file), 'utf8')).join('\n')
  const rows = [...readFileSync(page, 'utf8').matchAll(/^\|.*\| (.*?) \|$/gm)].map(([, tests]) => tests ?? '')
  const files = rows.flatMap((tests) => [...tests.matchAll(/`([\w./-]+)`/g)].map(([, file]) => `${file}.test.ts`))
  const names = rows.flatMap((tests) =>
    [...tests.matchAll(/\*([^*]+)\*/g)].flatMap(([, name]) => name?.split(/…|\.\.\./) ?? []),
  )
  expect(rows.filter((tests) => !/^(test|---|.*`.*|contract.*)$/.test(tests))).toEqual([])
  expect(files.filter((file) => file !== '….test.ts' && !sources.includes(file))).toEqual([])
  expect(names.filter((part) => !all.includes(part.trim()))).toEqual([])
})

test('links between pages lead somewhere', () => {
  const broken = pages.flatMap((page) => {
    const links = [...readFileSync(page, 'utf8').matchAll(/\]\((?!https?:)([^)#\s]+)[^)]*\)/g)].map(
      ([, link]) => link ?? '',
    )
    return links.filter((link) => !existsFrom(page, link)).map((link) => `${page}: ${link}`)
  })
  expect(broken).toEqual([])
})

function existsFrom(page: string, link: string): boolean {
  try {
    readdirSync(join(page, '..', link))
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTDIR'
  }
}

describe.concurrent('runs to its end and prints something', () => {
  const run = async (file: string): Promise<{ stdout: string; stderr: string }> =>
    promisify(execFile)(process.execPath, ['--import', 'tsx', file], { timeout: 110_000 })

  test.each(blocksOf('README.md').map((code, i) => [i + 1, code] as const))(
    'block %d of the README',
    async (i, code) => {
      const file = join(folder, `readme-${i}.ts`)
      writeFileSync(file, `${code}\nexport {}`)
      const { stdout, stderr } = await run(file)
      expect(stderr).toBe('')
      expect(stdout).not.toBe('')
    },
  )

  test.each(examples)('example %s, shorter than a screen', async (file) => {
    expect(readFileSync(join('examples', file), 'utf8').split('\n').length).toBeLessThanOrEqual(50)
    const { stdout, stderr } = await run(join('examples', file))
    expect(stderr).toBe('')
    expect(stdout).not.toBe('')
  })
})
