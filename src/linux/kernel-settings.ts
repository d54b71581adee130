/** Settings of the kernel under /proc/sys, of this thread's network namespace. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface KernelSetting {
  /** Under /proc/sys: `net/ipv4/ip_forward`. */
  readonly path: string;
  readonly value: string;
  /** A kernel that lacks it needs no setting. Default: it is an error. */
  readonly mayBeAbsent?: boolean;
}

/**
 * Only where it changes something: writing a setting again may reset others.
 *
 * @param directory instead of /proc/sys
 * @throws Error that names setting and value
 */
export function writeKernelSetting(setting: KernelSetting, directory = '/proc/sys'): void {
  const { value, mayBeAbsent = false } = setting;
  const path = join(directory, setting.path);
  try {
    if (wordsOf(readFileSync(path, 'utf8')) !== wordsOf(value)) writeFileSync(path, value);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT' && mayBeAbsent) return;
    throw new Error(`cannot write '${value}' to ${path}`, { cause });
  }
}

/** The kernel separates words by tabs. */
function wordsOf(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ');
}
