import assert from 'node:assert/strict';
import { test } from 'node:test';
import { docsCheck } from './docs.ts';
import { repositoryOf } from './repository.ts';

const page = 'docs/page.md';
const around = {
  'package.json': JSON.stringify({ scripts: { check: 'node tools/check.ts', bench: 'true' } }),
  'tools/check.ts': '',
  'src/nat/mapping.ts': '',
  'src/cli/run.ts': '',
  'src/cli/arguments.ts': "if (verb === 'version') print();",
  'bench/ring.ts': '',
  'docs/other.md': '# Other page\n\n## Two words, `code` & more\n\n## Again\n\n## Again\n',
};

async function findingsIn(lines: string | string[]): Promise<string[]> {
  const text = [lines].flat().join('\n');
  const findings = await docsCheck.run(repositoryOf({ ...around, [page]: text }));
  return findings.map(({ path, line, message }) => `${path}:${line} ${message}`);
}

async function assertFound(lines: string | string[], expected: RegExp): Promise<void> {
  const found = await findingsIn(lines);
  assert.equal(found.length, 1, `${lines} gave ${JSON.stringify(found)}`);
  assert.match(found[0] ?? '', expected);
}

test('links to files, folders, headings and other sites pass', async () => {
  const text = [
    '# Here',
    'See [a](other.md), [b](other.md#two-words-code--more), [c](#here), [d](../src/nat/),',
    '[e](https://example.net/x), [f](other.md#again-1), [g][ref] and `[h](nowhere.md)`.',
    '',
    '[ref]: other.md#again',
  ];
  assert.deepEqual(await findingsIn(text), []);
});

test('links to nothing are found with their line', async () => {
  await assertFound(['', 'See', '[a](gone.md).'], /^docs\/page\.md:3 links to gone\.md/);
  await assertFound('[a](other.md#gone)', /docs\/other\.md has no such heading/);
  await assertFound('[a](#gone)', /has no such heading/);
  await assertFound('[a][ref]\n\n[ref]: gone.md', /^docs\/page\.md:3 links to gone\.md/);
  await assertFound('![a](gone.svg)', /gone\.svg/);
});

test('paths of this repository that do not exist are found', async () => {
  assert.deepEqual(await findingsIn('`src/nat/mapping.ts`, `src/nat/`, `tools/*.ts`'), []);
  assert.deepEqual(await findingsIn('`src/{nat,cli}/*.ts`, `src/nat/mapping.ts:12`'), []);
  assert.deepEqual(await findingsIn('`docs/decisions/NNNN-title.md`, `src/<feature>/a.ts`'), []);
  assert.deepEqual(await findingsIn('`/etc/src/x.ts`, src/prose.ts'), []);
  await assertFound(['a', '`src/gone.ts`'], /^docs\/page\.md:2 names src\/gone\.ts/);
  await assertFound('`src/{nat,gone}/*.ts`', /does not exist/);
  await assertFound(['```', 'node tools/gone.ts', '```'], /page\.md:2 names tools\/gone\.ts/);
});

test('what is planned need not exist', async () => {
  assert.deepEqual(await findingsIn('| `src/gone/` | planned: a thing |'), []);
  assert.deepEqual(await findingsIn(['- `src/gone/`', '  is planned']), []);
  assert.deepEqual(await findingsIn(['## Shield (planned)', '', '### Path', '`src/gone/`']), []);
  await assertFound(['`src/gone/`', '', 'planned'], /does not exist/);
  await assertFound(['## Planned', '## Now', '`src/gone/`'], /does not exist/);
});

test('a row that calls planned what exists by now is found', async () => {
  await assertFound('| `src/nat/` | planned |', /src\/nat\/ planned, but it exists/);
  assert.deepEqual(await findingsIn('| `src/{nat,gone}/` | planned |'), []);
});

test('npm commands that package.json lacks are found', async () => {
  const good = [
    '`npm run check`, `npm ci`, `npm run bench -- ring`',
    '```sh',
    'npm run check -- docs',
    '```',
  ];
  assert.deepEqual(await findingsIn(good), []);
  await assertFound('`npm run gone`', /names `npm run gone`/);
  await assertFound('`npm run bench -- gone`', /no bench\/gone\.ts/);
  await assertFound(['```sh', 'npm test', '```'], /page\.md:2 names `npm test`/);
});

test('verbs of the command line and benchmarks that do not exist are found', async () => {
  const good = [
    '`gatehouse run`, `gatehouse version`',
    '`npm run check`',
    '`nft list table inet gatehouse now`',
  ];
  assert.deepEqual(await findingsIn(good), []);
  await assertFound('`gatehouse gone --now`', /gatehouse gone, which src\/cli\/ does not know/);
});

test('a script of package.json that names a missing file is found', async () => {
  const repository = repositoryOf({ 'package.json': '{"scripts":{"a":"node tools/gone.ts"}}' });
  const [found] = await docsCheck.run(repository);
  assert.match(found?.message ?? '', /"a" names tools\/gone\.ts/);
});
