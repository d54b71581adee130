/** Every dependency is pinned, explained, and used only where it is installed. */
import { isBuiltin } from 'node:module';
import type { Check, Finding } from './check.ts';
import { isTest } from './layers.ts';
import { blocksOf } from './markdown.ts';
import type { Repository } from './repository.ts';
import { importsOf, isScript, sourceOf } from './source.ts';

const page = 'docs/dependencies.md';
/** Package, what for, why this one, what was not chosen. */
const CELLS_MIN = 4;

interface Manifest {
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}

interface LockedPackage {
  readonly integrity?: string;
  readonly resolved?: string;
  readonly optional?: boolean;
  readonly os?: readonly string[];
  readonly libc?: readonly string[];
}

interface Lock {
  readonly packages: Record<string, LockedPackage>;
}

export const dependenciesCheck: Check = {
  name: 'dependencies',
  async run(repository) {
    const manifest = JSON.parse(repository.text('package.json')) as Manifest;
    return [
      ...unpinned(manifest),
      ...unexplained(repository, manifest),
      ...lockFindings(repository),
      ...undeclared(repository, manifest),
    ];
  },
};

function allOf(manifest: Manifest): Map<string, string> {
  const { dependencies, devDependencies, optionalDependencies } = manifest;
  const all = { ...dependencies, ...devDependencies, ...optionalDependencies };
  return new Map(Object.entries(all));
}

function unpinned(manifest: Manifest): Finding[] {
  return [...allOf(manifest)]
    .filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))
    .map(([name, version]) => ({
      path: 'package.json',
      message: `${name} is "${version}": give the exact version that every machine shall have`,
    }));
}

function unexplained(repository: Repository, manifest: Manifest): Finding[] {
  if (!repository.has(page)) return [{ path: page, message: 'is missing' }];
  const names = allOf(manifest);
  const findings: Finding[] = [];
  const explained = new Set<string>();
  for (const { kind, text, line, section } of blocksOf(repository.text(page))) {
    if (kind !== 'row') continue;
    const cells = text
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
    const named = [...(cells[0] ?? '').matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '');
    for (const name of named) explained.add(name);
    if (!/\bnpm\b/i.test(section.join(' '))) continue;
    for (const name of named.filter((one) => !names.has(one))) {
      findings.push({ path: page, line, message: `${name} is not in package.json: drop its line` });
    }
    if (named.length > 0 && cells.filter((cell) => cell !== '').length < CELLS_MIN) {
      const message = 'says too little: what for, why this one, what was not chosen';
      findings.push({ path: page, line, message });
    }
  }
  for (const name of names.keys()) {
    if (explained.has(name)) continue;
    findings.push({
      path: page,
      message: `has no line for ${name}, which package.json depends on`,
    });
  }
  return findings;
}

function lockFindings(repository: Repository): Finding[] {
  const path = 'package-lock.json';
  if (!repository.has(path)) return [{ path, message: 'is missing: nothing is pinned without it' }];
  const { packages } = JSON.parse(repository.text(path)) as Lock;
  return Object.entries(packages).flatMap(([name, locked]) => {
    const { integrity, resolved } = locked;
    const messages: string[] = [];
    if (resolved !== undefined) {
      messages.push(`${name} is bound to one registry by "resolved": delete that line`);
    }
    if (name !== '' && integrity === undefined && !isForElsewhere(locked)) {
      messages.push(`${name} has no "integrity", so a changed download would not be noticed`);
    }
    return messages.map((message) => ({ path, message }));
  });
}

/**
 * An optional package that no machine of ours downloads: not for Linux with Debian's C library. npm
 * wants it in the lock file all the same, and not every registry has it to take a digest of.
 */
function isForElsewhere({ optional, os, libc }: LockedPackage): boolean {
  if (optional !== true) return false;
  return os?.includes('linux') === false || libc?.includes('glibc') === false;
}

function undeclared(repository: Repository, manifest: Manifest): Finding[] {
  const installed = new Set(Object.keys(manifest.dependencies ?? {}));
  const all = allOf(manifest);
  return repository.paths.filter(isScript).flatMap((path) => {
    const shipped = path.startsWith('src/') && !isTest(path) && !path.startsWith('src/testing/');
    return importsOf(sourceOf(repository, path)).flatMap(({ specifier, line }) => {
      if (specifier === undefined || /^[./#]/.test(specifier) || isBuiltin(specifier)) return [];
      const name = packageOf(specifier);
      if (shipped ? installed.has(name) : all.has(name)) return [];
      const list = shipped ? 'dependencies' : 'package.json';
      return [{ path, line, message: `imports ${name}, which is not in ${list}` }];
    });
  });
}

function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}
