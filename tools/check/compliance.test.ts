import assert from 'node:assert/strict';
import { test } from 'node:test';
import { complianceCheck } from './compliance.ts';
import { repositoryOf } from './repository.ts';

const page = 'docs/compliance/page.md';
const around = {
  'src/nat/nat.test.ts':
    "test('rfc1-req1 survive-1 it holds', () => {});\nassert.equal('rfc1-req7', 1);",
  'test/namespaces/nat.test.ts':
    'test(`Survive-2 RFC 1 REQ-14 RFC 1 REC-2: $' + '{some} bytes`, () => {});',
  'src/testing/nat-tcp-cases.ts': "const all = [{ name: 'rfc1-s2.1 timers', note: 'rfc1-req8' }];",
  'src/testing/nat-case.ts': "const one = { name: 'rfc1-req9' };",
};

async function findingsIn(...rows: readonly string[]): Promise<string[]> {
  const text = ['| what | tests |', '| --- | :-: |', ...rows].join('\n');
  const findings = await complianceCheck.run(repositoryOf({ ...around, [page]: text }));
  return findings.map(({ path, line, message }) => `${path}:${line} ${message}`);
}

async function assertFound(row: string, expected: RegExp): Promise<void> {
  const found = await findingsIn(row);
  assert.equal(found.length, 1, `${row} gave ${JSON.stringify(found)}`);
  assert.match(found[0] ?? '', expected);
}

test('words that titles have pass, in either case and as the RFC writes them', async () => {
  const rows = [
    '| a | `rfc1-req1`, `SURVIVE-1` |',
    '| b | `survive-2` |',
    '| c | `rfc1-req14`, `rfc1-rec2` |',
  ];
  assert.deepEqual(await findingsIn(...rows, '| d | `rfc1-s2.1` |'), []);
});

test('words that no title has are found with page, line and word', async () => {
  await assertFound('| a | `rfc1-req2` |', /^docs\/compliance\/page\.md:3 names rfc1-req2, which/);
  await assertFound('| a | `rfc1-req1`, `rfc1-req3` |', /names rfc1-req3/);
});

test('a part of a word is not the word', async () => {
  await assertFound('| a | `survive-1` `survive` |', /names survive,/);
  await assertFound('| a | `rfc1-req` |', /names rfc1-req,/);
  await assertFound('| a | `rfc1-s2` |', /names rfc1-s2,/);
});

test('what stands elsewhere than in a title shows nothing', async () => {
  await assertFound('| a | `rfc1-req7` |', /names rfc1-req7/);
  await assertFound('| a | `rfc1-req8` |', /names rfc1-req8/);
  await assertFound('| a | `rfc1-req9` |', /names rfc1-req9/);
});

test('only the last column names tests', async () => {
  assert.deepEqual(await findingsIn('| `nat.timeouts` | `rfc1-req1` |'), []);
});

test('a row without a test is found, unless it is planned', async () => {
  await assertFound('| a | |', /page\.md:3 names no test/);
  assert.deepEqual(await findingsIn('| a, planned | |', '| planned | `survive-3` |'), []);
});

test('a row that calls planned what is tested by now is found', async () => {
  await assertFound('| planned | `survive-1` |', /page\.md:3 is called planned, but tests have/);
});

test('other pages may have tables as they like', async () => {
  const files = { ...around, 'docs/nat.md': '| a | b |\n| --- | --- |\n| c | `survive-3` |' };
  assert.deepEqual(await complianceCheck.run(repositoryOf(files)), []);
});
