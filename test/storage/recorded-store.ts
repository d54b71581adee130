/** A store whose every state is known, to compare with what is found after an accident. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Collection,
  type Log,
  openStore,
  plainCodec,
  type StorageAlarm,
  type Store,
  type StoreOptions,
} from '../../src/linux/store/store.ts';

export interface Content {
  readonly leases: Collection<{ address: string }>;
  readonly audit: Log<string>;
}

const AUDIT_RECORDS_MAX = 4;

export function contentOf(store: Store): Content {
  return {
    leases: store.collection({ name: 'leases', codec: plainCodec(), recordsMax: 1000 }),
    audit: store.log({ name: 'audit', codec: plainCodec(), recordsMax: AUDIT_RECORDS_MAX }),
  };
}

/** Transaction `number` (from 1) of the recorded history: two collections, puts and deletes. */
export function writeTransaction(store: Store, number: number): void {
  const { leases, audit } = contentOf(store);
  store.transaction(() => {
    leases.put(`client-${number % 3}`, { address: `10.77.0.${number}` });
    if (number % 4 === 0) leases.delete(`client-${(number + 1) % 3}`);
    audit.append(`transaction ${number}: Änderung`);
  });
}

/** What {@link dump} gives after so many transactions. */
export function expectedState(transactionCount: number): string {
  const leases = new Map<string, { address: string }>();
  const audit: (readonly [number, string])[] = [];
  for (let number = 1; number <= transactionCount; number++) {
    leases.set(`client-${number % 3}`, { address: `10.77.0.${number}` });
    if (number % 4 === 0) leases.delete(`client-${(number + 1) % 3}`);
    audit.unshift([number, `transaction ${number}: Änderung`]);
    audit.splice(AUDIT_RECORDS_MAX);
  }
  return JSON.stringify({ leases: [...leases].sort(), audit });
}

/** The whole content as one value. */
export function dump(store: Store): string {
  const { leases, audit } = contentOf(store);
  return JSON.stringify({ leases: leases.list(), audit: audit.list() });
}

export function unexpected(alarm: StorageAlarm): never {
  assert.fail(`an alarm: ${JSON.stringify(alarm)}`);
}

export type FolderContent = ReadonlyMap<string, Buffer>;

export function readFolder(folder: string): FolderContent {
  return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
}

export function writeFolder(folder: string, files: FolderContent): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { mode: 0o700 });
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
}

export interface Found {
  readonly state: string;
  readonly sequence: number;
  readonly alarms: readonly StorageAlarm[];
}

export function openAndDump(folder: string, options: Partial<StoreOptions> = {}): Found {
  const alarms: StorageAlarm[] = [];
  const store = openStore(folder, { ...options, alarm: (alarm) => alarms.push(alarm) });
  const found = { state: dump(store), sequence: store.sequence, alarms };
  store.close();
  return found;
}
