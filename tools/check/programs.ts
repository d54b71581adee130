/** The checks that another program makes: Biome, TypeScript's compiler, clang-format. */
import { execFile } from 'node:child_process';
import { isAbsolute, join, relative } from 'node:path';
import type { Check, Finding } from './check.ts';
import { isPure, isTest } from './layers.ts';

/** Each takes seconds; this only ends one that hangs. */
const PROGRAM_TIMEOUT_MS = 120_000;
/** 32 MiB: tens of thousands of findings. */
const OUTPUT_BYTES_MAX = 32 * 1024 * 1024;

export const formatAndLintCheck: Check = {
  name: 'format-and-lint',
  async run({ root }) {
    const biome = join(root, 'node_modules/.bin/biome');
    const argv = [biome, 'check', '--reporter=github', '--max-diagnostics=none', '--colors=off'];
    const result = await runProgram(argv, root);
    return orFailure(result, 'biome.json', biomeFindings(result.output, root));
  },
};

export const typesCheck: Check = {
  name: 'types',
  async run(repository) {
    const hasPure = repository.paths.some(
      (path) => path.endsWith('.ts') && isPure(path) && !isTest(path),
    );
    // tsc takes a configuration that matches no file for a mistake.
    const configs = hasPure ? ['tsconfig.json', 'tsconfig.pure.json'] : ['tsconfig.json'];
    const found = await Promise.all(
      configs.map(async (config) => {
        const tsc = join(repository.root, 'node_modules/.bin/tsc');
        const result = await runProgram([tsc, '-p', config, '--pretty', 'false'], repository.root);
        return orFailure(result, config, compilerFindings(result.output, config));
      }),
    );
    return found.flat();
  },
};

export const cFormatCheck: Check = {
  name: 'c-format',
  async run(repository) {
    const paths = repository.paths.filter((path) => /\.[ch]$/.test(path));
    if (paths.length === 0) return [];
    const argv = ['clang-format', '--dry-run', '-Werror', '--style=file', ...paths];
    const result = await runProgram(argv, repository.root);
    return orFailure(result, '.clang-format', clangFormatFindings(result.output));
  },
};

/** @param output of Biome's reporter `github`: one line for each finding. */
export function biomeFindings(output: string, root: string): Finding[] {
  const pattern = /^::\w+ title=([^,]*),file=([^,]*),line=(\d+),[^:]*::(.*)$/gm;
  return [...output.matchAll(pattern)].map(([, rule = '', file = '', line, text = '']) => {
    const path = isAbsolute(file) ? relative(root, file) : file;
    const message =
      rule === 'format'
        ? 'is not formatted: run `npm run format`'
        : `${rule}: ${text.replaceAll('%0A', ' ')}`;
    return { path, line: Number(line), message };
  });
}

/** @param config stands in for the file when the compiler names none. */
export function compilerFindings(output: string, config: string): Finding[] {
  const pattern = /^(?:(.+?)\((\d+),\d+\): )?error (TS\d+: .*(?:\n +.*)*)/gm;
  return [...output.matchAll(pattern)].map(([, path, line, text = '']) => ({
    path: path ?? config,
    ...(line === undefined ? {} : { line: Number(line) }),
    message: `${text.replaceAll(/\n +/g, ' ')} (${config})`,
  }));
}

/** The first complaint about each file, since one command mends the file. */
export function clangFormatFindings(output: string): Finding[] {
  const first = new Map<string, Finding>();
  for (const [, path = '', line] of output.matchAll(/^(.+?):(\d+):\d+: (?:error|warning): /gm)) {
    if (first.has(path)) continue;
    const message = `is not formatted: run \`clang-format -i ${path}\``;
    first.set(path, { path, line: Number(line), message });
  }
  return [...first.values()];
}

interface ProgramResult {
  readonly program: string;
  readonly success: boolean;
  readonly output: string;
}

function runProgram(argv: readonly string[], cwd: string): Promise<ProgramResult> {
  const [program = '', ...rest] = argv;
  const options = { cwd, timeout: PROGRAM_TIMEOUT_MS, maxBuffer: OUTPUT_BYTES_MAX };
  return new Promise((resolve) => {
    execFile(program, rest, options, (error, stdout, stderr) => {
      const missing = error?.code === 'ENOENT' ? 'is not installed' : '';
      resolve({ program, success: error === null, output: missing || `${stdout}\n${stderr}` });
    });
  });
}

/** A program that fails without a finding we understand must not pass for a clean one. */
function orFailure(result: ProgramResult, path: string, findings: Finding[]): Finding[] {
  if (result.success || findings.length > 0) return findings;
  const end = result.output.trim().split('\n').slice(-5).join(' | ');
  return [{ path, message: `${result.program} failed: ${end}` }];
}
