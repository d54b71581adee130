import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { diffLines, EDIT_COUNT_MAX } from './line-diff.ts';

/** Applies hunks as patch(1) would, and checks every line that they name. */
function patch(before: string, diff: string): string {
  const old = before === '' ? [] : before.replace(/\n$/, '').split('\n');
  const out: string[] = [];
  let position = 0;
  for (const line of diff.split('\n').slice(0, -1)) {
    const [, first, count] = /^@@ -(\d+),(\d+) /.exec(line) ?? [];
    if (first !== undefined) {
      const start = count === '0' ? Number(first) : Number(first) - 1;
      out.push(...old.slice(position, start));
      position = start;
      continue;
    }
    if (line[0] !== '+') assert.equal(old[position++], line.slice(1));
    if (line[0] !== '-') out.push(line.slice(1));
  }
  return [...out, ...old.slice(position)].map((line) => `${line}\n`).join('');
}

test('a change is shown with three lines around it, as diff -u shows it', () => {
  const before = 'a\nb\nc\nd\ne\nf\ng\nh\ni\n';
  const after = 'a\nb\nc\nd\nE\nf\ng\nh\ni\nj\n';
  const expected = '@@ -2,8 +2,9 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n i\n+j\n';
  assert.equal(diffLines({ before, after }), expected);
});

test('changes far apart are hunks of their own', () => {
  const lines = Array.from({ length: 30 }, (_, index) => `line ${index + 1}`);
  const before = lines.map((line) => `${line}\n`).join('');
  const after = before.replace('line 2\n', '').replace('line 28\n', 'line 28\nmore\n');
  assert.equal(
    diffLines({ before, after }),
    '@@ -1,5 +1,4 @@\n line 1\n-line 2\n line 3\n line 4\n line 5\n' +
      '@@ -26,5 +25,6 @@\n line 26\n line 27\n line 28\n+more\n line 29\n line 30\n',
  );
});

test('equal texts have no difference, and an empty one is all insertions or deletions', () => {
  assert.equal(diffLines({ before: 'a\n', after: 'a\n' }), '');
  assert.equal(diffLines({ before: '', after: 'a\nb\n' }), '@@ -0,0 +1,2 @@\n+a\n+b\n');
  assert.equal(diffLines({ before: 'a\nb\n', after: '' }), '@@ -1,2 +0,0 @@\n-a\n-b\n');
});

const text = fc
  .array(fc.constantFrom('a', 'b', 'c', ''), { maxLength: 30 })
  .map((lines) => lines.map((line) => `${line}\n`).join(''));

test('the difference, applied to the text before, gives the text after', () => {
  fc.assert(
    fc.property(text, text, (before, after) => {
      assert.equal(patch(before, diffLines({ before, after })), after);
    }),
    { numRuns: 2000 },
  );
});

test('no difference is longer than a shortest one', () => {
  const shortest = (a: readonly string[], b: readonly string[]): number => {
    let row = Array.from({ length: b.length + 1 }, (_, index) => index);
    for (const [i, line] of a.entries()) {
      const next = [i + 1];
      for (const [j, other] of b.entries()) {
        const aside = Math.min(row[j + 1] ?? 0, next[j] ?? 0) + 1;
        next.push(line === other ? (row[j] ?? 0) : aside);
      }
      row = next;
    }
    return row.at(-1) ?? 0;
  };
  const lines = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 20 });
  fc.assert(
    fc.property(lines, lines, (a, b) => {
      const diff = diffLines({ before: a.join('\n'), after: b.join('\n') });
      const editCount = diff.split('\n').filter((line) => /^[+-]/.test(line)).length;
      assert.equal(editCount, shortest(a, b));
    }),
  );
});

test('texts that differ in more than the limit are shown as replaced', () => {
  const many = (name: string) =>
    Array.from({ length: EDIT_COUNT_MAX }, (_, index) => `${name} ${index}\n`).join('');
  const before = `same\n${many('old')}end\n`;
  const after = `same\n${many('new')}end\n`;
  assert.equal(patch(before, diffLines({ before, after })), after);
});
