/** What is kept of the entries of address tables that came while the program ran. */
import { ENTRIES_MAX } from '../../firewall/table-entries.ts';
import { plainCodec, type Store } from './store.ts';

export interface EntryRecord {
  readonly table: string;
  /** `192.0.2.1` or `2001:db8::/32`. */
  readonly prefix: string;
  /** Absent: it stays until it is removed. */
  readonly expiry?: EntryExpiry;
}

export interface EntryExpiry {
  /** Of the boot whose clock `atMs` is. */
  readonly bootId: string;
  /** By the clock that runs since the boot. */
  readonly atMs: number;
  /** The same by the wall clock, for the next boot: it may be wrong, before or after. */
  readonly wallAtMs: number;
  /** What it was given: no clock makes it longer. */
  readonly forMs: number;
}

export interface TableRecords {
  list(): readonly EntryRecord[];
  /** @throws StorageError */
  put(record: EntryRecord): void;
  /** All at once. @throws StorageError */
  delete(records: readonly Omit<EntryRecord, 'expiry'>[]): void;
}

export function openTableRecords(store: Store): TableRecords {
  const collection = store.collection<EntryRecord>({
    name: 'table-entries',
    codec: plainCodec(),
    recordsMax: ENTRIES_MAX,
  });
  const keyOf = ({ table, prefix }: Omit<EntryRecord, 'expiry'>) => `${table} ${prefix}`;
  return {
    list: () => collection.list().map(([, record]) => record),
    put: (record) => collection.put(keyOf(record), record),
    delete: (records) => {
      if (records.length === 0) return;
      store.transaction(() => {
        for (const record of records) collection.delete(keyOf(record));
      });
    },
  };
}
