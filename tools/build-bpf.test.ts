import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { BpfBuildError, buildBpf } from './build-bpf.ts';

/** Stands in for clang: the object is the source, and a source that says "bad" is refused. */
const compilerText = (version: string) => `#!/bin/sh
if [ "$1" = --version ]; then echo "${version}"; exit 0; fi
while [ $# -gt 0 ]; do
  case $1 in
    -c) source=$2; shift;;
    -o) object=$2; shift;;
  esac
  shift
done
read -r text < "$source"
if [ "$text" = bad ]; then echo "$source:1:1: error: bad" >&2; exit 1; fi
echo "$text" > "$object"
`;

async function project(context: TestContext, sources: Record<string, string>) {
  const folder = await mkdtemp(join(tmpdir(), 'gatehouse-bpf-'));
  context.after(() => rm(folder, { recursive: true }));
  const options = {
    sourceFolder: join(folder, 'bpf'),
    objectFolder: join(folder, 'build'),
    compiler: join(folder, 'compiler'),
  };
  const write = (path: string, text: string) => {
    const file = join(options.sourceFolder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${text}\n`);
  };
  const setCompiler = (version: string) => {
    writeFileSync(options.compiler, compilerText(version));
    chmodSync(options.compiler, 0o755);
  };
  setCompiler('clang 14');
  for (const [path, text] of Object.entries(sources)) write(path, text);
  return {
    ...options,
    write,
    setCompiler,
    remove: (path: string) => rmSync(join(options.sourceFolder, path)),
    build: () => buildBpf(options),
    object: (name: string) => readFileSync(join(options.objectFolder, `${name}.o`), 'utf8').trim(),
  };
}

const twoSources = { 'a/one.bpf.c': 'one', 'b/two.bpf.c': 'two', 'b/two.h': 'header' };

test('every source becomes an object, and the second build does nothing', async (context) => {
  const { build, object } = await project(context, twoSources);
  assert.deepEqual(await build(), { built: ['one', 'two'], unchanged: [], removed: [] });
  assert.equal(object('one'), 'one');
  assert.equal(object('two'), 'two');
  assert.deepEqual(await build(), { built: [], unchanged: ['one', 'two'], removed: [] });
});

test('a changed source rebuilds its object alone', async (context) => {
  const { build, write, object } = await project(context, twoSources);
  await build();
  write('a/one.bpf.c', 'other');
  assert.deepEqual((await build()).built, ['one']);
  assert.equal(object('one'), 'other');
});

test('a changed header and another compiler rebuild everything', async (context) => {
  const { build, write, setCompiler } = await project(context, twoSources);
  await build();
  write('b/two.h', 'changed');
  assert.deepEqual((await build()).built, ['one', 'two']);
  setCompiler('clang 15');
  assert.deepEqual((await build()).built, ['one', 'two']);
});

test('a damaged object is rebuilt', async (context) => {
  const { build, object, objectFolder } = await project(context, twoSources);
  await build();
  writeFileSync(join(objectFolder, 'two.o'), 'tw');
  assert.deepEqual((await build()).built, ['two']);
  assert.equal(object('two'), 'two');
});

test('an object whose source is gone is removed', async (context) => {
  const { build, remove, objectFolder } = await project(context, twoSources);
  await build();
  remove('a/one.bpf.c');
  assert.deepEqual(await build(), { built: [], unchanged: ['two'], removed: ['one'] });
  assert.deepEqual((await readdir(objectFolder)).sort(), ['two.o', 'two.o.stamp']);
});

test('all refused sources are named, the others built, and the old object is kept', async (context) => {
  const { build, write, object } = await project(context, twoSources);
  await build();
  write('a/one.bpf.c', 'bad');
  write('b/two.bpf.c', 'better');
  write('c/three.bpf.c', 'bad');
  await assert.rejects(build(), (error: Error) => {
    assert.ok(error instanceof BpfBuildError);
    assert.match(error.message, /a\/one\.bpf\.c:1:1: error: bad/);
    assert.match(error.message, /c\/three\.bpf\.c:1:1: error: bad/);
    return true;
  });
  assert.equal(object('one'), 'one');
  assert.equal(object('two'), 'better');
});

test('two sources for one object are an error that names both', async (context) => {
  const { build } = await project(context, { ...twoSources, 'c/one.bpf.c': 'one' });
  await assert.rejects(build(), /a\/one\.bpf\.c and c\/one\.bpf\.c would both become one\.o/);
});

test('builds at the same time end with the right objects and leave nothing else', async (context) => {
  const sources = Array.from({ length: 6 }, (_, index) => [`p${index}.bpf.c`, `text ${index}`]);
  const { build, object, objectFolder } = await project(context, Object.fromEntries(sources));
  await Promise.all([build(), build(), build()]);
  for (let index = 0; index < 6; index += 1) assert.equal(object(`p${index}`), `text ${index}`);
  assert.equal((await readdir(objectFolder)).length, 12);
  assert.deepEqual((await build()).built, []);
});

test('what a killed build left is removed, what a living one may need is not', async (context) => {
  const { build, objectFolder } = await project(context, twoSources);
  await build();
  const [old, young] = [join(objectFolder, '.one.old.tmp'), join(objectFolder, '.one.young.tmp')];
  writeFileSync(old, '');
  utimesSync(old, 0, 0);
  writeFileSync(young, '');
  await build();
  const hidden = (await readdir(objectFolder)).filter((name) => name.startsWith('.'));
  assert.deepEqual(hidden, ['.one.young.tmp']);
});

test('a missing compiler is named with how to get it', async (context) => {
  const { sourceFolder, objectFolder } = await project(context, twoSources);
  await assert.rejects(
    buildBpf({ sourceFolder, objectFolder, compiler: 'no-such-clang' }),
    /no-such-clang is not installed.*apt-get install clang/,
  );
});
