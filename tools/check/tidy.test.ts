import assert from 'node:assert/strict';
import { test } from 'node:test';
import { repositoryOf } from './repository.ts';
import { tidyCheck } from './tidy.ts';

async function findingsIn(path: string, text = ''): Promise<string[]> {
  const findings = await tidyCheck.run(repositoryOf({ [path]: text }));
  return findings.map(({ line, message }) => `${line} ${message}`);
}

async function assertFound(path: string, text: string, expected: RegExp): Promise<void> {
  const found = await findingsIn(path, text);
  assert.equal(found.length, 1, `${path} gave ${JSON.stringify(found)}`);
  assert.match(found[0] ?? '', expected);
}

test('a tidy file passes', async () => {
  assert.deepEqual(await findingsIn('src/net/ip-prefix.test.ts', 'const a = 1;\n'), []);
  assert.deepEqual(await findingsIn('bpf/packet/parse.h', '#pragma once\n\n\tint a;\n'), []);
  assert.deepEqual(await findingsIn('docs/decisions/0001-one-thing.md', '# 1. One thing\n'), []);
  assert.deepEqual(await findingsIn('README.md'), []);
  assert.deepEqual(await findingsIn('.ci/run', 'true\n'), []);
});

test('names that say nothing are found, for files and for folders', async () => {
  await assertFound('src/net/utils.ts', '', /"utils" says nothing/);
  await assertFound('src/net/address-helpers.ts', '', /"address-helpers" says nothing/);
  await assertFound('lab/common/link.ts', '', /"common" says nothing/);
  await assertFound('src/net/types.test.ts', '', /"types" says nothing/);
});

test('names that are not in kebab-case are found', async () => {
  await assertFound('src/net/ipPrefix.ts', '', /"ipPrefix.ts" is not in kebab-case/);
  await assertFound('src/Net/prefix.ts', '', /"Net" is not in kebab-case/);
  await assertFound('bpf/gateway/nat_mapping.c', '', /kebab-case/);
});

test('white space, tabs and line ends are found with their line', async () => {
  await assertFound('src/a.ts', 'a;\nb; \n', /^2 ends with white space/);
  await assertFound('src/a.ts', 'a;\n\tb;\n', /^2 holds a tab/);
  await assertFound('docs/a.md', 'a\r\n', /^1 ends with a carriage return/);
  await assertFound('src/a.ts', 'a;', /exactly one line feed/);
  await assertFound('src/a.ts', 'a;\n\n', /exactly one line feed/);
});

test('a line over 100 columns is found, counting a tab in C as 8', async () => {
  await assertFound('src/a.ts', `// ${'word '.repeat(20)}end\n`, /^1 is 106 columns wide/);
  await assertFound('bpf/a.c', `\t\t/* ${'a'.repeat(79)} */\n`, /^1 is 101 columns wide/);
  assert.deepEqual(await findingsIn('bpf/a.c', `\t\t/* ${'a'.repeat(78)} */\n`), []);
});

test('what cannot be broken may be longer, and so may prose and generated files', async () => {
  assert.deepEqual(await findingsIn('src/a.ts', `  '${'00'.repeat(60)}',\n`), []);
  const address = `// see https://example.net/${'a'.repeat(90)} there\n`;
  assert.deepEqual(await findingsIn('src/a.ts', address), []);
  const title = `test('${'word '.repeat(18)}', async () => {\n`;
  assert.deepEqual(await findingsIn('src/a.test.ts', title), []);
  assert.deepEqual(await findingsIn('docs/a.md', `| ${'word '.repeat(30)}|\n`), []);
  assert.deepEqual(await findingsIn('src/abi/a.generated.ts', `// ${'word '.repeat(30)}a\n`), []);
});

test('a file of 600 lines passes, a longer one is found unless it is generated', async () => {
  assert.deepEqual(await findingsIn('src/a.ts', 'a;\n'.repeat(600)), []);
  await assertFound('src/a.ts', 'a;\n'.repeat(601), /has 601 lines, over 600/);
  assert.deepEqual(await findingsIn('src/a.generated.ts', 'a;\n'.repeat(601)), []);
});

test('a header without "#pragma once" is found', async () => {
  await assertFound('bpf/abi/a.h', 'int a;\n', /#pragma once/);
});
