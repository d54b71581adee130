/**
 * The interface to which the NAT's programs send fragments that have to wait: a TAP device, whose
 * other side is this process. What is written into it goes to the ingress of the interface that its
 * Ethernet source address names (bpf/gateway/fragment-return.bpf.c).
 *
 * It has no addresses and no IPv6, so the kernel itself says nothing there, and nothing that comes
 * from it reaches the kernel. It goes with this process, however that ends; the programs then drop
 * what they would send there.
 */
import { fragmentReturnObject } from '../../abi/fragment-return.generated.ts';
import { FragmentReturnCounter } from '../../abi/layouts.generated.ts';
import { attachTc } from '../attach.ts';
import { type BpfObject, loadBpfObject } from '../bpf-object.ts';
import { setInterfaceUp } from '../interface-flags.ts';
import { writeKernelSetting } from '../kernel-settings.ts';
import { interfaceIndex } from '../libc.ts';
import { TapDevice } from '../tap.ts';

/** Of at most 15 bytes, as the kernel wants it. */
export const HOLD_INTERFACE_NAME = 'gatehouse-hold';

export class HoldInterface {
  /** In this process's network namespace. */
  readonly index: number;
  readonly tap: TapDevice;
  readonly #object: BpfObject<typeof fragmentReturnObject>;
  #indexes: ReadonlySet<number> = new Set();

  /**
   * @throws Error of node:fs without /dev/net/tun, LinuxError when the kernel refuses, EBUSY when
   * an interface of that name exists
   */
  constructor() {
    const name = HOLD_INTERFACE_NAME;
    this.#object = loadBpfObject(fragmentReturnObject);
    let tap: TapDevice | undefined;
    try {
      tap = TapDevice.open({ namespacePath: '/proc/thread-self/ns/net', interfaceName: name });
      // Before it is up: an interface says its first words of IPv6 at once.
      const path = `net/ipv6/conf/${name}/disable_ipv6`;
      writeKernelSetting({ path, value: '1', mayBeAbsent: true });
      const { returnFragment } = this.#object.programs;
      attachTc(returnFragment, { interface: name }, 'ingress', 'fragments');
      setInterfaceUp(name);
      this.index = interfaceIndex(name);
      this.tap = tap;
    } catch (cause) {
      tap?.close();
      this.#object.close();
      throw cause;
    }
  }

  /** From now on, frames go back to these interfaces alone. */
  allow(indexes: ReadonlySet<number>): void {
    const { fragmentReturnInterfaces: map } = this.#object.maps;
    for (const index of this.#indexes) if (!indexes.has(index)) map.delete(index);
    for (const index of indexes) if (!this.#indexes.has(index)) map.update(index, 1);
    this.#indexes = indexes;
  }

  /** Frames that were written and did not go back. */
  droppedCount(): number {
    const { fragmentReturnCounters: map } = this.#object.maps;
    const reasons = [FragmentReturnCounter.droppedForeign, FragmentReturnCounter.droppedInterface];
    const counts = reasons.flatMap((reason) => map.lookup(reason) ?? []);
    return Number(counts.reduce((sum, count) => sum + count, 0n));
  }

  close(): void {
    this.tap.close();
    this.#object.close();
  }
}
