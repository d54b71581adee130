/**
 * Runs inside the virtual machine: counts the packets of a veth pair, by XDP where they arrive and
 * by tc where they leave.
 */
import type { Guest } from '../../lab/virtual-machine-protocol.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { PacketDirection } from '../../src/abi/layouts.generated.ts';
import { protocolCountersObject } from '../../src/abi/protocol-counters.generated.ts';
import {
  attachedTcProgramId,
  attachTc,
  attachXdp,
  clearTcPlace,
  type TcHook,
  type XdpMode,
} from '../../src/linux/attach.ts';
import { loadBpfObject } from '../../src/linux/bpf-object.ts';
import { type Argv, describeFailure, runCommand } from '../../src/linux/command-runner.ts';
import { interfaceIndex } from '../../src/linux/libc.ts';

/** What the script reports at its end. */
export interface CountReport {
  readonly xdpMode: XdpMode;
  /** Both ends counted the IPv6 packets that a link sends by itself when it comes up. */
  readonly counted: boolean;
  readonly tcHook: TcHook;
  /** What was attached was found, and is gone. */
  readonly detached: boolean;
}

export async function run(guest: Guest): Promise<void> {
  await ip('link', 'add', 'left', 'type', 'veth', 'peer', 'name', 'right');
  const { maps, programs } = loadBpfObject(protocolCountersObject);
  const xdp = attachXdp(programs.countProtocolsXdp, { interface: 'left' });
  const target = { interface: 'right' };
  const tc = attachTc(programs.countProtocolsTcEgress, target, 'egress');
  const again = attachTc(programs.countProtocolsTcEgress, target, 'egress');
  await ip('link', 'set', 'left', 'up');
  await ip('link', 'set', 'right', 'up');

  const left = interfaceIndex('left');
  const right = interfaceIndex('right');
  const keys = () => [...maps.protocolCounters.entries()].map(([key]) => key);
  const counted = await waitFor(
    'packets counted at both ends',
    () =>
      keys().some((key) => key.interfaceIndex === left) &&
      keys().some(
        (key) => key.interfaceIndex === right && key.direction === PacketDirection.egress,
      ),
    { timeoutMs: 60_000 },
  );
  const isFound = attachedTcProgramId(target, 'egress') === programs.countProtocolsTcEgress.id;
  again.detach();
  const isCleared = !clearTcPlace(target, 'egress', 'counting');
  const report: CountReport = {
    xdpMode: xdp.mode,
    tcHook: tc.hook,
    counted,
    detached: isFound && isCleared,
  };
  guest.report(report);
}

async function ip(...words: string[]): Promise<void> {
  const argv: Argv = ['ip', ...words];
  const result = await runCommand(argv, { timeoutMs: 30_000 });
  if (!result.success) throw new Error(describeFailure(argv, result));
}
