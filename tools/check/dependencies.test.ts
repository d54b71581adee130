import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dependenciesCheck } from './dependencies.ts';
import { repositoryOf } from './repository.ts';

const good = {
  'package.json': JSON.stringify({
    dependencies: { fastify: '5.0.0' },
    devDependencies: { '@biomejs/biome': '2.6.8' },
  }),
  'package-lock.json': JSON.stringify({
    packages: { '': {}, 'node_modules/fastify': { integrity: 'sha512-x' } },
  }),
  'docs/dependencies.md': [
    '## npm packages',
    '| package | what for | why | not chosen |',
    '| --- | --- | --- | --- |',
    '| `fastify` | HTTP | schemas | express |',
    '| `@biomejs/biome` | lint | fast | eslint |',
    '## Debian packages',
    '| `clang` | BPF |',
    '',
  ].join('\n'),
};

async function findingsIn(changed: Record<string, string>): Promise<string[]> {
  const findings = await dependenciesCheck.run(repositoryOf({ ...good, ...changed }));
  return findings.map(({ path, line, message }) => `${path}:${line} ${message}`);
}

async function assertFound(changed: Record<string, string>, expected: RegExp): Promise<void> {
  const found = await findingsIn(changed);
  assert.equal(found.length, 1, JSON.stringify(found));
  assert.match(found[0] ?? '', expected);
}

test('pinned and explained dependencies pass', async () => {
  assert.deepEqual(await findingsIn({}), []);
});

test('a dependency without an exact version is found', async () => {
  const manifest = good['package.json'].replace('5.0.0', '^5.0.0');
  await assertFound({ 'package.json': manifest }, /fastify is "\^5\.0\.0"/);
});

test('a dependency without a line, and a line without a dependency, are found', async () => {
  const text = good['docs/dependencies.md'];
  const without = text.replace(/.*fastify.*\n/, '');
  await assertFound({ 'docs/dependencies.md': without }, /has no line for fastify/);
  const stale = text.replace('| `fastify`', '| `gone` | a | b | c |\n| `fastify`');
  await assertFound({ 'docs/dependencies.md': stale }, /:4 gone is not in package\.json/);
  const short = text.replace('| schemas | express |', '| |');
  await assertFound({ 'docs/dependencies.md': short }, /:4 says too little/);
});

test('a lock file that names a registry or lacks a digest is found', async () => {
  const lock = (entry: object) => ({
    'package-lock.json': JSON.stringify({ packages: { '': {}, 'node_modules/a': entry } }),
  });
  const resolved = { integrity: 'sha512-x', resolved: 'https://registry.example/a.tgz' };
  await assertFound(lock(resolved), /bound to one registry/);
  await assertFound(lock({}), /no "integrity"/);
  await assertFound(lock({ optional: true, os: ['linux'], libc: ['glibc'] }), /no "integrity"/);
  await assertFound(lock({ os: ['win32'] }), /no "integrity"/);
  const elsewhere = [{ os: ['win32'] }, { os: ['linux'], libc: ['musl'] }];
  for (const place of elsewhere) {
    const found = await findingsIn(lock({ optional: true, ...place }));
    assert.deepEqual(found, []);
  }
});

test('the program imports only what is installed with it', async () => {
  const path = 'src/api/server.ts';
  assert.deepEqual(await findingsIn({ [path]: "import 'fastify'; import 'node:fs';" }), []);
  await assertFound({ [path]: "\nimport '@biomejs/biome/x';" }, /server\.ts:2 imports @biomejs\/b/);
  assert.deepEqual(await findingsIn({ 'tools/a.ts': "import '@biomejs/biome/x';" }), []);
  await assertFound({ 'tools/a.ts': "import 'gone';" }, /imports gone, which is not in package/);
});
