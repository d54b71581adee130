import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openRepository, repositoryOf } from './repository.ts';

function temporaryFolder(context: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'gatehouse-check-'));
  context.after(() => rmSync(root, { recursive: true }));
  return root;
}

test('committed and new files are listed, ignored and deleted ones are not', (context) => {
  const root = temporaryFolder(context);
  const git = (...words: string[]) => execFileSync('git', words, { cwd: root, stdio: 'pipe' });
  mkdirSync(join(root, 'build'));
  writeFileSync(join(root, '.gitignore'), 'build/\n');
  for (const path of ['kept.ts', 'deleted.ts', 'new.ts', 'build/object.o']) {
    writeFileSync(join(root, path), `text of ${path}`);
  }
  git('init', '--quiet');
  git('add', '.gitignore', 'kept.ts', 'deleted.ts');
  rmSync(join(root, 'deleted.ts'));
  const repository = openRepository(root);
  assert.deepEqual(repository.paths, ['.gitignore', 'kept.ts', 'new.ts']);
  assert.equal(repository.text('new.ts'), 'text of new.ts');
});

test('a folder without git is refused with its name', (context) => {
  const root = temporaryFolder(context);
  assert.throws(
    () => openRepository(root),
    new RegExp(`cannot list the files of ${root} with git`),
  );
});

test('a folder exists when it holds a file', () => {
  const repository = repositoryOf({ 'src/net/prefix.ts': '' });
  assert.equal(repository.has('src/net/'), true);
  assert.equal(repository.has('src'), true);
  assert.equal(repository.has('src/ne'), false);
  assert.equal(repository.has('src/net/prefix.ts'), true);
});
