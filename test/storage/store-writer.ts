/**
 * Writes the recorded history to the store of a folder until it is killed, and says what was
 * acknowledged: `node store-writer.ts FOLDER` prints `open N` and then one number a transaction.
 */
import { writeSync } from 'node:fs';
import { openStore, plainCodec } from '../../src/linux/store/store.ts';
import { unexpected, writeTransaction } from './recorded-store.ts';

/** Makes the journal grow so fast that it is begun anew every 20 transactions. */
const PADDING_CHARACTERS = 50_000;

const store = openStore(process.argv[2] ?? '', { alarm: unexpected });
const padding = store.collection({ name: 'padding', codec: plainCodec<string>(), recordsMax: 3 });
writeSync(1, `open ${store.sequence}\n`);
for (let number = store.sequence + 1; ; number++) {
  store.transaction(() => {
    writeTransaction(store, number);
    padding.put(`padding-${number % 3}`, String(number % 10).repeat(PADDING_CHARACTERS));
  });
  writeSync(1, `${number}\n`);
}
