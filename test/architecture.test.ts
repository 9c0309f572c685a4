import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

// What docs/architecture.md says about floors and borders, checked on every import of src/.

const FLOORS: Record<string, number> = {
  kernel: 0,
  resilience: 1,
  'rate-limit': 1,
  cache: 1,
  'event-sourcing': 1,
  messaging: 1,
  cqrs: 2,
  saga: 2,
  http: 2,
  testing: 3,
  cli: 4,
}

/** The arrows of floor 2. A new one needs a decision record. */
const ARROWS: Record<string, readonly string[]> = {
  cqrs: ['event-sourcing'],
  saga: ['messaging', 'resilience'],
  http: ['rate-limit'],
}

/** What a folder may import from outside. Drivers are nowhere (the user makes the client) but in the command line. */
const PACKAGES: Record<string, readonly string[]> = {
  kernel: ['node:crypto'],
  cache: ['lru-cache', 'node:crypto'],
  'event-sourcing': ['node:crypto'],
  messaging: ['node:crypto'],
  saga: ['node:crypto', 'node:util'],
  http: ['node:crypto'],
  testing: ['node:util'],
  cli: ['ioredis', 'node:path', 'node:readline/promises', 'node:url', 'node:util', 'pg'],
}

interface SourceFile {
  readonly path: string
  readonly folder: string
  readonly text: string
  readonly lines: number
  readonly imports: readonly string[]
}

const files: SourceFile[] = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => {
    const text = readFileSync(join('src', path), 'utf8')
    return {
      path,
      folder: path.includes('/') ? path.slice(0, path.indexOf('/')) : '',
      text,
      lines: text.split('\n').length - 1,
      imports: ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName),
    }
  })

/** The folder that a relative import leads to. */
const target = (file: SourceFile, specifier: string): string =>
  relative('.', join(dirname(file.path), specifier)).split('/')[0] ?? ''

/** The names that an index.ts exports. */
const named = (path: string): string[] =>
  ts
    .createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest)
    .statements.filter(ts.isExportDeclaration)
    .flatMap(({ exportClause }) =>
      exportClause && ts.isNamedExports(exportClause) ? exportClause.elements.map(({ name }) => name.text) : [],
    )

const inFolders = files.filter(({ folder }) => folder !== '')

test('every folder of src has its floor', () => {
  expect([...new Set(inFolders.map(({ folder }) => folder))].toSorted()).toEqual(Object.keys(FLOORS).toSorted())
})

test('imports go down only, and along the arrows that are listed', () => {
  const wrong = inFolders.flatMap((file) =>
    file.imports
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => target(file, specifier))
      .filter((to) => to !== file.folder && !mayImport(file.folder, to))
      .map((to) => `${file.path} imports ${to}`),
  )
  expect(wrong).toEqual([])
})

function mayImport(from: string, to: string): boolean {
  if (to === 'kernel') return true
  const [above, below] = [FLOORS[from] ?? 0, FLOORS[to] ?? Infinity]
  return above === 2 ? (ARROWS[from]?.includes(to) ?? false) : above > below
}

test('packages are imported only where they belong, drivers nowhere', () => {
  const wrong = files.flatMap((file) =>
    file.imports
      .filter((specifier) => !specifier.startsWith('.') && !PACKAGES[file.folder]?.includes(specifier))
      .map((specifier) => `${file.path} imports ${specifier}`),
  )
  expect(wrong).toEqual([])
})

test('relative imports name a file with its ending, so that Node finds it', () => {
  const wrong = files.flatMap(({ path, imports }) =>
    imports
      .filter((specifier) => specifier.startsWith('.') && !specifier.endsWith('.js'))
      .map((specifier) => `${path}: ${specifier}`),
  )
  expect(wrong).toEqual([])
})

test('an index.ts is a public face: named re-exports and nothing else', () => {
  const wrong = files
    .filter(({ path }) => path.endsWith('index.ts'))
    .flatMap(({ path, text }) =>
      ts
        .createSourceFile(path, text, ts.ScriptTarget.Latest)
        .statements.filter((s) => !(ts.isExportDeclaration(s) && s.exportClause && ts.isNamedExports(s.exportClause)))
        .map((statement) => `${path}: ${text.slice(statement.pos, statement.end).trim()}`),
    )
  expect(wrong).toEqual([])
})

test('adapters have a subpath of their own and are not re-exported', () => {
  const adapters = /\/(redis|postgres|rabbitmq)(\.|-|\/)/
  const wrong = files.filter(
    ({ path, folder, imports }) =>
      folder !== 'kernel' && path.endsWith('index.ts') && imports.some((i) => adapters.test(i)),
  )
  expect(wrong.map(({ path }) => path)).toEqual([])
})

test('the root re-exports everything that the primitives export', () => {
  const own = ['testing', 'http', 'cli'] // for tests; for one framework of several: these have a subpath alone; no import at all
  const primitives = Object.keys(FLOORS).filter((folder) => !own.includes(folder))
  const expected = new Set(primitives.flatMap((folder) => named(`src/${folder}/index.ts`)))
  expect(named('src/index.ts').toSorted()).toEqual([...expected].toSorted())
})

test('a name means the same in every primitive', () => {
  const sources = new Map<string, Set<string>>()
  for (const folder of Object.keys(FLOORS).filter((name) => name !== 'cli')) {
    const path = `src/${folder}/index.ts`
    const { statements } = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest)
    for (const { exportClause, moduleSpecifier } of statements.filter(ts.isExportDeclaration)) {
      if (!exportClause || !ts.isNamedExports(exportClause) || !moduleSpecifier || !ts.isStringLiteral(moduleSpecifier))
        continue
      const file = join(folder, moduleSpecifier.text)
      for (const { name } of exportClause.elements)
        sources.set(name.text, (sources.get(name.text) ?? new Set()).add(file))
    }
  }
  expect([...sources].filter(([, from]) => from.size > 1).map(([name, from]) => [name, ...from])).toEqual([])
})

test('time and chance come from the kernel', () => {
  const own = /Date\.now\(|new Date\(\)|performance\.now\(|(?<![.\w])set(Timeout|Interval)\(|Math\.random\(/
  const wrong = inFolders.filter(({ folder, text }) => folder !== 'kernel' && own.test(text))
  expect(wrong.map(({ path }) => path)).toEqual([])
})

test('no file is longer than 400 lines, and none has a name that says nothing', () => {
  expect(files.filter(({ lines }) => lines > 400).map(({ path }) => path)).toEqual([])
  const vague = /(^|\/)(utils?|helpers?|common|base|impl|types)(\/|\.ts$)/
  expect(files.filter(({ path }) => vague.test(path)).map(({ path }) => path)).toEqual([])
})

test('every member of a public interface says what it is', () => {
  const isPublic = new Set(named('src/index.ts'))
  const silent = files.flatMap(({ path, text }) =>
    ts
      .createSourceFile(path, text, ts.ScriptTarget.Latest, true)
      .statements.filter(ts.isInterfaceDeclaration)
      .filter(({ name }) => isPublic.has(name.text))
      .flatMap(({ name, members }) =>
        members
          .filter((member) => ts.getJSDocCommentsAndTags(member).length === 0)
          .map((member) => `${path}: ${name.text}.${member.name?.getText() ?? '(…)'}`),
      ),
  )
  expect(silent).toEqual([])
})

test('nothing is left open in the source', () => {
  const open = /\b(TODO|FIXME|XXX|HACK)\b|not implemented|: any[,;)=\]]|<any>|\bas any\b|@ts-(ignore|expect-error)/
  expect(files.filter(({ text }) => open.test(text)).map(({ path }) => path)).toEqual([])
})
