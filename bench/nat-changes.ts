/**
 * Changes about addresses as the firewall's tables have them: an element of a set of nft comes or
 * goes, and then the address has another number, so that its sessions are judged once more.
 */
import { closeSync } from 'node:fs';
import type { LabHost } from '../lab/lab.ts';
import { seededRandom } from '../lab/seeded-random.ts';
import { natObject } from '../src/abi/nat.generated.ts';
import { BpfMap } from '../src/linux/bpf-map.ts';
import { attachedNatPrograms } from '../src/linux/core/nat-object.ts';
import { raiseAddressGenerations } from '../src/linux/core/rules-generation.ts';
import { KERNEL_NAME_LENGTH_MAX, mapsOfPrograms } from '../src/linux/kernel-objects.ts';
import { formatIpv4Address, ipv4Address } from '../src/net/ipv4-address.ts';
import { requireCommand } from './nat-bed.ts';

/** Of the bench's own: no rule asks it, so that every session goes on. */
const TABLE = 'inet changing';
const INTERVAL_MS = 10;
export const CHANGES_PER_SECOND = 1_000 / INTERVAL_MS;

/**
 * Starts a hundred changes a second about addresses at random, by one nft that stays. Disposing
 * ends them.
 *
 * @param addresses in host order, each as likely as the others
 */
export async function startChanges(
  gateway: LabHost,
  addresses: readonly number[],
): Promise<AsyncDisposable> {
  await using cleanup = new AsyncDisposableStack();
  const set = `table ${TABLE} { set addresses { type ipv4_addr; }; }`;
  await requireCommand(gateway, ['nft', '-f', '-'], set);
  cleanup.defer(() => requireCommand(gateway, ['nft', 'delete', 'table', ...TABLE.split(' ')]));
  const raise = cleanup.adopt(openNumbers(gateway), ({ close }) => close());
  const nft = gateway.spawn(['nft', '-i']);
  cleanup.defer(async () => {
    await nft.stop();
  });
  const random = seededRandom(1);
  const present = new Set<number>();
  let count = 0;
  const change = (): void => {
    const address = addresses[Math.floor(random() * addresses.length)] ?? 0;
    const verb = present.delete(address) ? 'delete' : 'add';
    if (verb === 'add') present.add(address);
    const text = formatIpv4Address(ipv4Address(address));
    nft.writeInput(`${verb} element ${TABLE} addresses { ${text} }\n`);
    raise.of(address);
    count++;
  };
  // What a busy moment holds up is made up for.
  const startedAt = performance.now();
  const timer = setInterval(() => {
    while (count * INTERVAL_MS < performance.now() - startedAt) change();
  }, INTERVAL_MS);
  cleanup.defer(async () => {
    clearInterval(timer);
    nft.closeInput();
    await nft.exited;
    await requireElements(gateway, present.size);
  });
  return cleanup.move();
}

/** @throws Error when nft has not made every change */
async function requireElements(gateway: LabHost, count: number): Promise<void> {
  const argv = ['nft', '-j', 'list', 'set', ...TABLE.split(' '), 'addresses'] as const;
  const { stdout } = await gateway.run(argv, { timeoutMs: 10_000 });
  const { nftables } = JSON.parse(stdout) as { nftables: { set?: { elem?: unknown[] } }[] };
  const found = nftables.find(({ set }) => set !== undefined)?.set?.elem?.length ?? 0;
  if (found !== count) throw new Error(`the set has ${found} elements, not ${count}`);
}

/** Those of addresses, of the NAT that runs on a gateway. */
function openNumbers(gateway: LabHost): { of(address: number): void; close(): void } {
  const map = natObject.maps.natAddressGenerations;
  const name = map.name.slice(0, KERNEL_NAME_LENGTH_MAX);
  const found = gateway.enter(() => mapsOfPrograms(attachedNatPrograms()));
  try {
    const one = found.find((each) => each.name === name);
    if (one === undefined) throw new Error('the NAT does not run');
    const memory = new BpfMap({ ...map, fd: one.fd }).mapMemory();
    return {
      of: (address) => {
        const bits = { family: 4, bits: BigInt(address) } as const;
        const generations = { memory: memory.buffer, hashKey: [] };
        raiseAddressGenerations(generations, [{ first: bits, last: bits }]);
      },
      close: () => memory.unmap(),
    };
  } finally {
    for (const { fd } of found) closeSync(fd);
  }
}
