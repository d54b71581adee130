/**
 * The first and only file system of a virtual machine: Node, the shared libraries, the kernel's
 * modules and the parts of the repository that a script needs.
 *
 * The archive is neither compressed nor kept: writing it takes the host half a second, about as
 * long as it would take to see that a kept one is still right, and unpacking it takes the emulated
 * machine one second, where zstd takes three.
 */
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { type Argv, describeFailure, runCommand } from '../src/linux/command-runner.ts';
import { CpioArchive } from './virtual-machine-archive.ts';
import {
  GUEST_NODE,
  GUEST_REPOSITORY,
  GUEST_TASK,
  type GuestTask,
} from './virtual-machine-protocol.ts';

export interface ImageContents {
  /** The root of the repository on the host. */
  readonly repository: string;
  /** Files and folders of the repository, by relative path. */
  readonly files: readonly string[];
  /** Files that exist only inside the machine, by path relative to the repository. */
  readonly extraFiles: Readonly<Record<string, Uint8Array>>;
  /** The host's programs by absolute path; their libraries come with them. */
  readonly programs: readonly string[];
  /** Files of kernel modules on the host, in the order of loading. */
  readonly modules: readonly string[];
  /** The script, by path relative to the repository. */
  readonly script: string;
  readonly input: unknown;
}

/** The libraries that `src/linux` loads by name at run time. */
const loadedLibraries = ['libbpf.so.1'];

/** Writes the archive to `path`, which must not exist. Contents are read as they are now. */
export async function writeImage(path: string, contents: ImageContents): Promise<void> {
  const archive = new CpioArchive();
  for (const folder of ['/dev', '/proc', '/sys', '/tmp', '/run']) archive.addFolder(folder);
  await addPrograms(archive, contents.programs);
  for (const file of contents.files) addRepositoryFile(archive, contents.repository, file);
  for (const [file, content] of Object.entries(contents.extraFiles)) {
    archive.addFile(join(GUEST_REPOSITORY, file), content);
  }
  const modules = contents.modules.map((module) => `/modules/${basename(module)}`);
  for (const module of contents.modules) {
    archive.addFile(`/modules/${basename(module)}`, readFileSync(module));
  }
  const script = join(GUEST_REPOSITORY, contents.script);
  const task: GuestTask = { script, modules, input: contents.input };
  archive.addFile(GUEST_TASK, Buffer.from(JSON.stringify(task)));
  writePieces(path, archive.encode());
}

function writePieces(path: string, pieces: Iterable<Uint8Array>): void {
  const file = openSync(path, 'wx');
  try {
    for (const piece of pieces) {
      let written = 0;
      while (written < piece.length) written += writeSync(file, piece, written);
    }
  } finally {
    closeSync(file);
  }
}

async function addPrograms(archive: CpioArchive, programs: readonly string[]): Promise<void> {
  const node = realpathSync(process.execPath);
  archive.addFile(GUEST_NODE, readFileSync(node));
  const libraries = await Promise.all(loadedLibraries.map(findLibrary));
  const needed = await Promise.all([node, ...libraries, ...programs].map(neededLibraries));
  for (const path of new Set([...programs, ...libraries, ...needed.flat()])) {
    archive.addFile(path, readFileSync(path));
  }
}

function addRepositoryFile(archive: CpioArchive, repository: string, file: string): void {
  const path = join(repository, file);
  if (!statSync(path).isDirectory()) {
    archive.addFile(join(GUEST_REPOSITORY, file), readFileSync(path));
    return;
  }
  for (const entry of readdirSync(path)) addRepositoryFile(archive, repository, join(file, entry));
}

async function findLibrary(soname: string): Promise<string> {
  const known = await run(['/sbin/ldconfig', '-p']);
  const line = known.split('\n').find((entry) => entry.trim().startsWith(`${soname} `));
  const path = line?.split(' => ')[1];
  if (path === undefined) throw new Error(`the library ${soname} is not installed`);
  return path;
}

/** The libraries that the loader maps for this program or library, the loader included. */
async function neededLibraries(binary: string): Promise<string[]> {
  const listed = await run(['ldd', binary]);
  return [...listed.matchAll(/(\/\S+) \(0x[0-9a-f]+\)/g)].map((match) => match[1] ?? '');
}

async function run(argv: Argv): Promise<string> {
  const result = await runCommand(argv, { timeoutMs: 10_000 });
  if (!result.success) throw new Error(describeFailure(argv, result));
  return result.stdout;
}
