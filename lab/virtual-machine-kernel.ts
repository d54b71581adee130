/**
 * Distribution kernels for virtual machines: fetched as packages into a cache, never installed.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { type Argv, describeFailure, runCommand } from '../src/linux/command-runner.ts';
import { tryLockFile } from '../src/linux/file-lock.ts';
import { waitFor } from './wait-for.ts';

/** The kernels that a virtual machine can boot. */
export type KernelName = 'debian-12-cloud';

export interface Kernel {
  /** As `uname -r` prints it, for example `6.1.0-56-cloud-amd64`. */
  readonly release: string;
  /** The compressed kernel that a boot loader starts. */
  readonly imagePath: string;
  /** The root of its loadable modules. */
  readonly modulesFolder: string;
}

/** A kernel cannot be had on this machine; the message says what is missing. */
export class KernelUnavailableError extends Error {
  override readonly name = 'KernelUnavailableError';
}

/** apt's own retries included; a mirror that hangs longer is as good as absent. */
const DOWNLOAD_TIMEOUT_MS = 180_000;
const LOCK_FILE = 'download.lock';

const debianPackages: Record<KernelName, { readonly name: string; readonly version: RegExp }> = {
  'debian-12-cloud': { name: 'linux-image-cloud-amd64', version: /^linux-image-6\.1\.\S+$/ },
};

/**
 * The newest kernel of that name that the package lists know, or the one fetched by an earlier run.
 * Removing the cache's folder asks for a newer one.
 *
 * @throws KernelUnavailableError
 */
export async function fetchKernel(name: KernelName, cacheFolder: string): Promise<Kernel> {
  if (process.arch !== 'x64') {
    throw new KernelUnavailableError(
      `cannot boot ${name} on ${process.arch}: the virtual machine runs the host's own Node, and ` +
        'its kernel is for x86-64',
    );
  }
  const folder = join(cacheFolder, name);
  if (!existsSync(folder)) await downloadOnce(name, folder, cacheFolder);
  return describeKernel(folder);
}

/**
 * A folder that only this process uses. Those of processes that are gone are removed, so that a
 * killed run leaves nothing for long.
 */
export function makeScratchFolder(cacheFolder: string): string {
  mkdirSync(cacheFolder, { recursive: true });
  for (const entry of readdirSync(cacheFolder)) {
    const owner = /^scratch-(\d+)-/.exec(entry)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) {
      rmSync(join(cacheFolder, entry), { recursive: true, force: true });
    }
  }
  return mkdtempSync(join(cacheFolder, `scratch-${process.pid}-`));
}

/** Of runs that need the kernel at the same time, one fetches it and the others wait for it. */
async function downloadOnce(name: KernelName, folder: string, cacheFolder: string): Promise<void> {
  mkdirSync(cacheFolder, { recursive: true });
  const path = join(cacheFolder, LOCK_FILE);
  const lock = await waitFor(
    `another run's download of ${name}`,
    () => tryLockFile(path, 'create') ?? tryLockFile(path, 'existing'),
    { timeoutMs: 5 * DOWNLOAD_TIMEOUT_MS },
  );
  try {
    if (!existsSync(folder)) await download(name, folder, cacheFolder);
  } finally {
    lock.release();
  }
}

/** The finished folder appears by a rename, so a broken download is never taken for a kernel. */
async function download(name: KernelName, folder: string, cacheFolder: string): Promise<void> {
  const scratch = makeScratchFolder(cacheFolder);
  try {
    const archive = await downloadPackage(name, scratch);
    const contents = join(scratch, 'contents');
    await run(['dpkg-deb', '--extract', archive, contents]);
    describeKernel(contents);
    renameSync(contents, folder);
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    throw new KernelUnavailableError(
      `cannot fetch ${debianPackages[name].name}, whose kernel the virtual machine boots; the ` +
        `network is needed once, later runs use the copy in ${folder}: ${cause.message}`,
      { cause },
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** @returns the path of the downloaded .deb */
async function downloadPackage(name: KernelName, scratch: string): Promise<string> {
  try {
    return await downloadListedPackage(name, scratch);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    // The lists are absent, or older than the mirror's last security update.
    await run(['apt-get', '--error-on=any', 'update']);
    return await downloadListedPackage(name, scratch);
  }
}

async function downloadListedPackage(name: KernelName, scratch: string): Promise<string> {
  const { name: metaPackage, version } = debianPackages[name];
  const listed = await run(['apt-cache', 'depends', '--important', metaPackage]);
  const image = /Depends: (linux-image-\S+)/.exec(listed)?.[1];
  if (image === undefined) throw new CommandError(`apt knows no dependency of ${metaPackage}`);
  if (!version.test(image)) {
    throw new KernelUnavailableError(
      `cannot fetch ${name}: apt on this machine offers ${image}, and Debian 12's 6.1 is needed`,
    );
  }
  // As root, apt would drop to a user who may not write to this folder.
  const asRoot = ['--option', 'APT::Sandbox::User=root'];
  await run(['env', `--chdir=${scratch}`, 'apt-get', 'download', ...asRoot, image]);
  const archive = readdirSync(scratch).find((entry) => entry.endsWith('.deb'));
  if (archive === undefined) throw new CommandError(`apt-get download ${image} left no package`);
  return join(scratch, archive);
}

function describeKernel(folder: string): Kernel {
  const image = readdirSync(join(folder, 'boot')).find((entry) => entry.startsWith('vmlinuz-'));
  if (image === undefined) throw new KernelUnavailableError(`${folder}/boot holds no vmlinuz`);
  const release = image.slice('vmlinuz-'.length);
  return {
    release,
    imagePath: join(folder, 'boot', image),
    modulesFolder: join(folder, 'lib/modules', release),
  };
}

/**
 * The files of these modules and of all that they need, in the order in which they are to be
 * loaded. The package has no modules.dep, so the dependencies come from the modules themselves.
 *
 * @param names as in `modprobe`: `veth`, `sch_ingress`
 */
export function resolveModules(kernel: Kernel, names: readonly string[]): string[] {
  const paths = new Map<string, string>();
  for (const entry of readdirSync(kernel.modulesFolder, { recursive: true, encoding: 'utf8' })) {
    if (entry.endsWith('.ko')) {
      paths.set(moduleName(basename(entry, '.ko')), join(kernel.modulesFolder, entry));
    }
  }
  const ordered = new Set<string>();
  const visit = (name: string): void => {
    const path = paths.get(moduleName(name));
    if (path === undefined) throw new Error(`${kernel.release} has no module ${name}`);
    if (ordered.has(path)) return;
    for (const needed of moduleDependencies(path)) visit(needed);
    ordered.add(path);
  };
  for (const name of names) visit(name);
  return [...ordered];
}

/** File names use hyphens and underscores at will; the kernel takes them as equal. */
function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

/** The module's .modinfo section holds `depends=a,b` as a NUL-terminated string. */
function moduleDependencies(path: string): string[] {
  const names = /\0depends=([^\0]*)\0/.exec(readFileSync(path, 'latin1'))?.[1] ?? '';
  return names.split(',').filter((name) => name !== '');
}

/** apt or dpkg failed. */
class CommandError extends Error {
  override readonly name = 'CommandError';
}

async function run(argv: Argv): Promise<string> {
  const result = await runCommand(argv, { timeoutMs: DOWNLOAD_TIMEOUT_MS });
  if (result.success) return result.stdout;
  // apt repeats one trouble for each of its sources.
  const complaint = /^E: .*/m.exec(result.stderr)?.[0];
  throw new CommandError(complaint ?? describeFailure(argv, result));
}
