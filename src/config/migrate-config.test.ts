import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { ConfigEdit } from './edit-config.ts';
import { exampleConfig } from './example-config.ts';
import { type ConfigMigration, configMigrations, migrateConfig } from './migrate-config.ts';
import { isList, isPlainObject, type PlainValue } from './plain-value.ts';
import { CONFIG_VERSION } from './schema.ts';

const fileName = 'gatehouse.yaml';

/** A whole file of the chain that only this test has. */
function golden(version: number): string {
  const url = new URL(
    `../../test/vectors/config/migrations/version-${version}.yaml`,
    import.meta.url,
  );
  return readFileSync(url, 'utf8');
}

/** Everything that a real step will do: rename, wrap, change kinds, move, and leave alone. */
const chain: readonly ConfigMigration[] = [
  {
    from: 1,
    summary: 'The WAN is a mapping; ports are called forwards.',
    migrate: (config) => [
      { path: ['wan'], value: { interface: fieldOf(config, 'wan') ?? 'wan0' } },
      { path: ['ports'], rename: 'forwards' },
    ],
  },
  {
    from: 2,
    summary: 'Forwards are mappings; the lease moves to dhcp, with a unit.',
    migrate(config) {
      const forwards = fieldOf(config, 'forwards');
      const edits = (isList(forwards) ? forwards : []).map((text, index): ConfigEdit => {
        const [port = '', to = ''] = String(text).split(' -> ');
        return { path: ['forwards', index], value: { port: Number(port), to } };
      });
      return [
        ...edits,
        { path: ['dhcp', 'lease'], value: `${fieldOf(config, 'lease')}h` },
        { path: ['lease'], delete: true },
      ];
    },
  },
];

function fieldOf(config: PlainValue, key: string): PlainValue | undefined {
  return isPlainObject(config) ? config[key] : undefined;
}

test('each step of a chain makes the golden file of the next version', () => {
  for (const from of [1, 2]) {
    const migrations = chain.slice(0, from);
    const migrated = migrateConfig(golden(from), { fileName, migrations });
    assert.equal(migrated.text, golden(from + 1));
    assert.deepEqual(migrated.problems, undefined);
  }
});

test('a file goes through every step that it needs, and says what changed', () => {
  const migrated = migrateConfig(golden(1), { fileName, migrations: chain });
  assert.deepEqual(migrated, {
    text: golden(3),
    from: 1,
    to: 3,
    changes: chain.map(({ summary }) => summary),
  });
});

test('a file of the newest version stays as it is', () => {
  const migrated = migrateConfig(golden(3), { fileName, migrations: chain });
  assert.deepEqual(migrated, { text: golden(3), from: 3, to: 3, changes: [] });
});

test('a newer version is refused with a clear sentence', () => {
  const { problems } = migrateConfig('# x\nversion: 4\n', { fileName, migrations: chain });
  assert.deepEqual(problems, [
    {
      fileName,
      line: 2,
      column: 10,
      path: 'version',
      expected: 'a file of version 3 or older: a newer Gatehouse wrote this one',
      found: '`4`',
    },
  ]);
});

test('a file without a version, or with none that ever was, is refused', () => {
  for (const text of [
    '',
    'a: 1\n',
    'version: 0\n',
    'version: 1.5\n',
    'version: "1"\n',
    'version: []\n',
  ]) {
    const { problems } = migrateConfig(text, { fileName, migrations: chain });
    assert.match(problems?.[0]?.expected ?? '', /^the version of the file/, text);
  }
});

test('a step that has a hole behind it, or edits the version, is our mistake', () => {
  const [first, second] = chain;
  assert.ok(first && second);
  const hole = [first, { ...second, from: 3 }];
  assert.throws(
    () => migrateConfig(golden(1), { fileName, migrations: hole }),
    /no migration leads on/,
  );
  const rash = { ...first, migrate: () => [{ path: ['version'], value: 7 }] };
  assert.throws(
    () => migrateConfig(golden(1), { fileName, migrations: [rash] }),
    /edits the version/,
  );
});

test('the steps of this program lead without a hole to the version that it reads', () => {
  const first = CONFIG_VERSION - configMigrations.length;
  const versions = configMigrations.map(({ from }) => from);
  assert.deepEqual(
    versions,
    Array.from(configMigrations, (_, index) => first + index),
  );
  assert.equal(first, 1);
  const migrated = migrateConfig(exampleConfig, { fileName });
  assert.equal(migrated.text, exampleConfig);
});
