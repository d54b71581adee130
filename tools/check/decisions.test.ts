import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decisionsCheck } from './decisions.ts';
import { repositoryOf } from './repository.ts';

function decision(number: number, status = 'Accepted, 2026.'): string {
  const sections = ['Context', 'Decision', 'Consequences', 'Not chosen'];
  return [`# ${number}. A thing`, '', '## Status', '', status, '']
    .concat(sections.flatMap((name) => [`## ${name}`, '', 'Text.', '']))
    .join('\n');
}

const good = {
  'docs/decisions/README.md': '[1](0001-one.md)\n[2](0002-two.md)\n',
  'docs/decisions/0001-one.md': decision(1),
  'docs/decisions/0002-two.md': decision(2, 'Superseded by [0001](0001-one.md).'),
};

async function findingsIn(files: Record<string, string>): Promise<string[]> {
  const findings = await decisionsCheck.run(repositoryOf(files));
  return findings.map(({ path, message }) => `${path} ${message}`);
}

async function assertFound(changed: Record<string, string>, expected: RegExp): Promise<void> {
  const found = await findingsIn({ ...good, ...changed });
  assert.equal(found.length, 1, JSON.stringify(found));
  assert.match(found[0] ?? '', expected);
}

test('well-formed decisions pass', async () => {
  assert.deepEqual(await findingsIn(good), []);
});

test('a gap in the numbers is found', async () => {
  const { 'docs/decisions/0001-one.md': _, ...rest } = good;
  const found = await findingsIn(rest);
  assert.match(found[0] ?? '', /0002-two\.md has number 0002 where 0001 follows/);
});

test('a wrong name, title, heading or status is found', async () => {
  await assertFound({ 'docs/decisions/three.md': decision(3) }, /not named NNNN-title/);
  const path = 'docs/decisions/0002-two.md';
  await assertFound({ [path]: decision(7) }, /does not start with the title "# 2\. …"/);
  await assertFound({ [path]: decision(2).replace('## Context', '## Why') }, /the headings/);
  await assertFound({ [path]: decision(2, 'Perhaps.') }, /a status that is not/);
});

test('a decision longer than a page is found', async () => {
  const path = 'docs/decisions/0002-two.md';
  await assertFound({ [path]: decision(2) + 'a\n\n'.repeat(30) }, /over a page/);
});

test('a decision that the index does not list is found', async () => {
  const text = '[1](0001-one.md)\n';
  await assertFound({ 'docs/decisions/README.md': text }, /README\.md does not list 0002-two/);
});
