/** The addresses behind the digests of sessions of IPv6, as the programs keep them. */
import type { NatSixAddress } from '../../abi/layouts.generated.ts';
import { type Ipv6Address, ipv6Address } from '../../net/ipv6-address.ts';
import type { BpfMap } from '../bpf-map.ts';
import type { Ipv6Addresses } from './session-states.ts';

/** A millisecond or two of the process. */
const ENTRIES_PER_SLICE = 4_096;
/** Of an address. */
const BYTES = 16;

export class SessionAddresses implements Ipv6Addresses {
  readonly #map: BpfMap<number, NatSixAddress>;

  /** @param map nat_six_addresses */
  constructor(map: BpfMap<number, NatSixAddress>) {
    this.#map = map;
  }

  addressOf(digest: number): Ipv6Address | undefined {
    const found = this.#map.lookup(digest);
    if (found === undefined) return undefined;
    return addressAt(new DataView(Uint8Array.from(found.bytes).buffer), 0);
  }

  *slices(): Generator<(readonly [digest: number, address: Ipv6Address])[]> {
    for (const { keys, values, count } of this.#map.batches(ENTRIES_PER_SLICE)) {
      yield Array.from({ length: count }, (_, index) => [
        this.#map.key.decode(keys, index * this.#map.key.sizeBytes),
        addressAt(values, index * BYTES),
      ]);
    }
  }
}

function addressAt(view: DataView, at: number): Ipv6Address {
  return ipv6Address((view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8));
}
