import { readFileSync } from 'node:fs';

/** Of the running kernel. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
