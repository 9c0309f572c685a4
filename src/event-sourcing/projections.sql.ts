/**
 * Tables of the projector, for a quoted schema name `s`, beside those of its checkpoints. `live` is what readers of the
 * stable names see, `wanted` what is to become it; `tables` are those that `setup` asked the name of, as a JSON array.
 */
export const projectionSteps = (s: string): readonly (readonly string[])[] => [
  [
    `create table ${s}.es_projections (name text collate "C" primary key, live int not null, wanted int,
       setups int not null default 0)`,
    `create table ${s}.es_revisions (name text collate "C" not null, revision int not null, generation int not null,
       tables text not null, primary key (name, revision))`,
  ],
]
