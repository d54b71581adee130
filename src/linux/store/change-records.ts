/** What is kept of changes of the config: the one under way, and the revisions before. */
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Change, PendingChange } from '../../gateway/change/change-machine.ts';
import { diffLines } from '../../gateway/change/line-diff.ts';
import { readJournal } from './journal.ts';
import { type Codec, type Log, plainCodec, type Store } from './store.ts';

/** A year of weekly changes and more; older ones are dropped. */
export const REVISIONS_MAX = 200;

export interface Revision {
  readonly author: string;
  /** Milliseconds since 1970 by the wall clock, for people only: it may have been wrong. */
  readonly recordedAt: number;
  readonly configText: string;
  readonly rulesetText: string;
  /** Of the config against the revision before it, in unified form. */
  readonly configDiff: string;
}

export interface ChangeRecords {
  readonly revisions: Pick<Log<Revision>, 'get' | 'list'>;
  /** For `ChangeMachine.start`. */
  pending(): PendingChange | undefined;
  /** `store-pending` @throws StorageError */
  storePending(pending: PendingChange): void;
  /** `store-confirmed` @returns the revision's number @throws StorageError */
  storeConfirmed(change: Change, recordedAt: number): number;
  /** `clear-pending` @throws StorageError */
  clearPending(): void;
  /** A configuration that no change led to, for example the first one. @returns its number */
  recordRevision(revision: Omit<Revision, 'configDiff'>): number;
}

const PENDING_CHANGE = 'pending-change';
const REVISIONS = 'revisions';
/** There is one change at a time. */
const KEY = 'current';

export function openChangeRecords(store: Store): ChangeRecords {
  const pendingChange = store.collection<PendingChange>({
    name: PENDING_CHANGE,
    codec: plainCodec(),
    recordsMax: 1,
  });
  const revisions = store.log<Revision>({
    name: REVISIONS,
    codec: revisionCodec,
    recordsMax: REVISIONS_MAX,
  });
  const recordRevision = (revision: Omit<Revision, 'configDiff'>) =>
    store.transaction(() => {
      const before = revisions.list({ limit: 1 })[0]?.[1].configText ?? '';
      const configDiff = diffLines({ before, after: revision.configText });
      return revisions.append({ ...revision, configDiff });
    });
  return {
    revisions,
    pending: () => pendingChange.get(KEY),
    storePending: (pending) => pendingChange.put(KEY, pending),
    storeConfirmed: (change, recordedAt) =>
      store.transaction(() => {
        pendingChange.put(KEY, { phase: 'confirmed', change });
        return recordRevision({ author: change.author, recordedAt, ...change.next });
      }),
    clearPending: () => {
      pendingChange.delete(KEY);
    },
    recordRevision,
  };
}

export interface ChangesAtRest {
  /** The journal cannot be read, so there may be more than is told. */
  readonly isDamaged: boolean;
  readonly pending?: PendingChange;
  /** The config text of the newest revision. */
  readonly configText?: string;
}

/**
 * What the journal of a state folder tells, without opening the store, which may be in use, and
 * without changing anything. Nothing where the journal cannot be read.
 */
export function readChangesAtRest(folder: string): ChangesAtRest {
  const journal = readJournal(join(folder, 'state.journal'));
  if (journal === 'absent') return { isDamaged: false };
  if ('damage' in journal) return { isDamaged: true };
  let pending: PendingChange | undefined;
  const configTexts = new Map<string, string>();
  for (const { collection, key, text } of journal.changes()) {
    if (collection === PENDING_CHANGE && key === KEY) {
      pending = text === undefined ? undefined : JSON.parse(text);
    }
    if (collection !== REVISIONS) continue;
    if (text === undefined) configTexts.delete(key);
    else configTexts.set(key, (JSON.parse(text) as Revision).configText);
  }
  const newest = [...configTexts.keys()].sort().at(-1);
  const configText = newest === undefined ? undefined : configTexts.get(newest);
  return {
    isDamaged: false,
    ...(pending === undefined ? {} : { pending }),
    ...(configText === undefined ? {} : { configText }),
  };
}

/** A printed ruleset may have megabytes and shrinks to a tenth or less. */
const revisionCodec: Codec<Revision> = {
  encode: ({ rulesetText, ...rest }) => ({
    ...rest,
    rulesetZstd: zstdCompressSync(rulesetText).toString('base64'),
  }),
  decode: (json) => {
    const { rulesetZstd, ...rest } = json as Omit<Revision, 'rulesetText'> & {
      rulesetZstd: string;
    };
    return {
      ...rest,
      // Megabytes each, and lists of revisions do not show them.
      get rulesetText() {
        return zstdDecompressSync(Buffer.from(rulesetZstd, 'base64')).toString('utf8');
      },
    };
  },
};
