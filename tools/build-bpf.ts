/**
 * Builds every `bpf/**\/*.bpf.c` to `build/bpf/<basename>.o`, and only what has changed. As a
 * program it prints what it built, and ends with code 1 after showing the compiler's errors.
 */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { globSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const root = join(import.meta.dirname, '..');

/** Bounds a compiler that hangs; an object takes well under a second. */
const COMPILE_TIMEOUT_MS = 120_000;

/** A temporary file older than this belongs to no living build, given the limit above. */
const ABANDONED_AFTER_MS = 2 * COMPILE_TIMEOUT_MS;

/** Enough for a header's worth of errors; the first of them is the one that matters. */
const COMPILER_OUTPUT_MAX_BYTES = 4 * 1024 * 1024;

/** Debian keeps the kernel's architecture headers in a folder named by this. */
const MULTIARCH: Readonly<Record<string, string>> = {
  arm64: 'aarch64-linux-gnu',
  x64: 'x86_64-linux-gnu',
};

/** Names of objects without folder and ending, in alphabetical order. */
export interface BpfBuild {
  readonly built: readonly string[];
  readonly unchanged: readonly string[];
  readonly removed: readonly string[];
}

/** A source that cannot be built; the message holds all that the compiler said. */
export class BpfBuildError extends Error {
  override name = 'BpfBuildError';
}

/**
 * Brings the folder of objects up to date with the sources. An object is complete or absent at
 * any moment, so that builds may overlap.
 *
 * @param options other folders or another compiler than the project's, for tests
 * @throws {BpfBuildError} when the compiler is missing or refuses a source
 */
export async function buildBpf(
  options: { sourceFolder?: string; objectFolder?: string; compiler?: string } = {},
): Promise<BpfBuild> {
  const {
    sourceFolder = join(root, 'bpf'),
    objectFolder = join(root, 'build/bpf'),
    compiler = 'clang',
  } = options;
  const sources = findSources(sourceFolder);
  const context = await digestContext(sourceFolder, compiler);
  await mkdir(objectFolder, { recursive: true });
  const removed = await removeStrangers(objectFolder, new Set(sources.keys()));
  const built: string[] = [];
  const unchanged: string[] = [];
  const refusals: string[] = [];
  const waiting = sources.entries();
  const work = async () => {
    for (const [name, source] of waiting) {
      const build = { name, source, context, sourceFolder, objectFolder, compiler };
      try {
        ((await bringUpToDate(build)) ? built : unchanged).push(name);
      } catch (error) {
        if (!(error instanceof BpfBuildError)) throw error;
        refusals.push(error.message);
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  if (refusals.length > 0) throw new BpfBuildError(refusals.sort().join('\n'));
  return { built: built.sort(), unchanged: unchanged.sort(), removed };
}

/** Object name → source path below the folder. All objects share one folder. */
function findSources(sourceFolder: string): Map<string, string> {
  const sources = new Map<string, string>();
  for (const source of globSync('**/*.bpf.c', { cwd: sourceFolder }).sort()) {
    const name = basename(source, '.bpf.c');
    const other = sources.get(name);
    if (other !== undefined) {
      throw new BpfBuildError(
        `build BPF objects: ${other} and ${source} would both become ${name}.o; rename one`,
      );
    }
    sources.set(name, source);
  }
  return sources;
}

function compilerFlags(): string[] {
  const multiarch = MULTIARCH[process.arch];
  if (multiarch === undefined) {
    throw new BpfBuildError(`build BPF objects: the architecture ${process.arch} is not supported`);
  }
  return [
    ...['-O2', '-g', '-Wall', '-Wextra', '-Werror', '-target', 'bpf', '-mcpu=v3'],
    // The object says where its sources lie relative to the repository, wherever that is.
    '-fdebug-compilation-dir=.',
    ...['-I', '.', '-I', `/usr/include/${multiarch}`],
  ];
}

/** What all objects depend on: the headers, the system's BPF headers, flags, the compiler. */
async function digestContext(sourceFolder: string, compiler: string): Promise<string> {
  const hash = createHash('sha256');
  hash.update(JSON.stringify(compilerFlags()));
  hash.update(await compilerVersion(compiler));
  const headers = [
    ...globSync('**/*.h', { cwd: sourceFolder }).map((header) => join(sourceFolder, header)),
    ...globSync('/usr/include/bpf/*.h'),
    ...globSync('/usr/include/linux/bpf*.h'),
  ].sort();
  for (const header of headers) {
    const content = await readFile(header);
    hash.update(`\0${header}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

async function compilerVersion(compiler: string): Promise<string> {
  try {
    return (await run(compiler, ['--version'], { timeout: COMPILE_TIMEOUT_MS })).stdout;
  } catch (cause) {
    // The second is what a folder on the PATH that may not be read makes of the first.
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'EACCES') throw cause;
    throw new BpfBuildError(
      `build BPF objects: ${compiler} is not installed; npm start, npm test and npm run check ` +
        'install what they need, or run: apt-get install clang libbpf-dev libc6-dev',
      { cause },
    );
  }
}

interface ObjectBuild {
  readonly name: string;
  readonly source: string;
  readonly context: string;
  readonly sourceFolder: string;
  readonly objectFolder: string;
  readonly compiler: string;
}

/** @returns whether anything had to be done */
async function bringUpToDate(build: ObjectBuild): Promise<boolean> {
  const source = await readFile(join(build.sourceFolder, build.source));
  const inputs = digest(`${build.context}\0${build.source}\0`, source);
  const object = join(build.objectFolder, `${build.name}.o`);
  const stamp = `${object}.stamp`;
  if (await isCurrent(object, stamp, inputs)) return false;
  const temporary = join(build.objectFolder, `.${build.name}.${randomUUID()}.tmp`);
  try {
    await compile(build, temporary);
    const content = await readFile(temporary);
    await rename(temporary, object);
    await writeFile(temporary, `${inputs} ${digest(content)}\n`);
    await rename(temporary, stamp);
  } finally {
    await rm(temporary, { force: true });
  }
  return true;
}

/**
 * The stamp names the object's own content too: object and stamp are two renames, and a build
 * that ends between them, or overlaps another, must not leave a pair that lies.
 */
async function isCurrent(object: string, stamp: string, inputs: string): Promise<boolean> {
  try {
    return (await readFile(stamp, 'utf8')) === `${inputs} ${digest(await readFile(object))}\n`;
  } catch {
    return false;
  }
}

async function compile(build: ObjectBuild, output: string): Promise<void> {
  const argv = [...compilerFlags(), '-c', build.source, '-o', output];
  try {
    await run(build.compiler, argv, {
      cwd: build.sourceFolder,
      timeout: COMPILE_TIMEOUT_MS,
      maxBuffer: COMPILER_OUTPUT_MAX_BYTES,
    });
  } catch (cause) {
    const { stderr, message } = cause as Error & { stderr?: string };
    throw new BpfBuildError(`compile bpf/${build.source}:\n${stderr || message}`, { cause });
  }
}

/** Removes objects whose source is gone and what killed builds left; returns the former. */
async function removeStrangers(
  objectFolder: string,
  names: ReadonlySet<string>,
): Promise<string[]> {
  const removed: string[] = [];
  for (const entry of (await readdir(objectFolder)).sort()) {
    const path = join(objectFolder, entry);
    const object = /^([^.].*)\.o(\.stamp)?$/.exec(entry);
    if (object?.[1] !== undefined && !names.has(object[1])) {
      await rm(path, { force: true });
      if (object[2] === undefined) removed.push(object[1]);
    } else if (/^\..*\.tmp$/.test(entry) && (await ageMs(path)) > ABANDONED_AFTER_MS) {
      await rm(path, { force: true });
    }
  }
  return removed;
}

/** Zero for a file that has gone meanwhile: another build renamed it. */
async function ageMs(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
}

function digest(...parts: (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

if (import.meta.main) {
  try {
    const { built, removed } = await buildBpf();
    if (built.length > 0) console.log(`Built BPF objects: ${built.join(', ')}`);
    if (removed.length > 0)
      console.log(`Removed BPF objects without source: ${removed.join(', ')}`);
  } catch (error) {
    if (!(error instanceof BpfBuildError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
