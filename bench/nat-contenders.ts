/** Those that the NAT is compared with, and the product itself. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabHost } from '../lab/lab.ts';
import { attachedTcProgramId, clearTcPlace, tcDirections } from '../src/linux/attach.ts';
import type { RunningProcess } from '../src/linux/command-runner.ts';
import { bedAddresses, type NatContender, requireCommand } from './nat-bed.ts';
import { flushConntrack } from './nat-conntrack.ts';

/** The kernel without any rule, so without connection tracking. */
export const plainForwarding: NatContender = {
  name: 'kernel forwarding without NAT',
  translates: false,
  async start(gateway) {
    setForwarding(gateway, '1');
    return { [Symbol.asyncDispose]: () => clear(gateway) };
  },
};

/** What an ordinary gateway has; over IPv6 it is a stateful firewall. */
export const nftMasquerade: NatContender = {
  name: 'nft masquerade',
  translates: true,
  async start(gateway) {
    await requireCommand(gateway, ['nft', '-f', '-'], masqueradeRules);
    setForwarding(gateway, '1');
    return { [Symbol.asyncDispose]: () => clear(gateway) };
  },
};

const masqueradeRules = `table inet ordinary {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname "lan0" oifname "wan0" accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan0" meta nfproto ipv4 masquerade
  }
}
`;

/** The whole product with the config of a home. */
export interface GatehouseContender extends NatContender {
  /** Kills the core, and starts one that puts programs of its own in the place of those there. */
  upgrade(): Promise<void>;
}

/** @param folder for a folder of its own at each start */
export function gatehouse(
  folder: string,
  { fastPath = 'auto' }: { readonly fastPath?: FastPath } = {},
): GatehouseContender {
  let upgrade = async (): Promise<void> => {
    throw new Error('it does not run');
  };
  return {
    name: names[fastPath],
    translates: true,
    upgrade: () => upgrade(),
    async start(gateway) {
      await using cleanup = new AsyncDisposableStack();
      const own = mkdtempSync(join(folder, 'gatehouse-'));
      cleanup.defer(() => rmSync(own, { recursive: true, force: true }));
      cleanup.defer(() => clear(gateway));
      writeFileSync(join(own, 'gatehouse.yaml'), configText({ folder: own, fastPath }));
      let running = await startCore(gateway, own);
      cleanup.defer(async () => {
        await running.stop(STOP_GRACE_MS);
      });
      const target = { interface: 'wan0', networkNamespace: gateway.namespacePath };
      const attached = () => attachedTcProgramId(target, 'egress', 'nat');
      upgrade = async () => {
        const before = attached();
        await running.stop(0);
        // Without it, nobody knows that the programs are the same.
        rmSync(join(own, 'runtime/nat-programs.json'));
        running = await startCore(gateway, own);
        if (attached() === before) throw new Error('the programs are the same as before');
      };
      return cleanup.move();
    },
  };
}

/** `auto` is at tc, since the bed's links are virtual. */
export type FastPath = 'auto' | 'xdp' | 'off';

const names = {
  auto: 'Gatehouse',
  xdp: 'Gatehouse at XDP',
  off: 'Gatehouse without fast path',
} as const satisfies Record<FastPath, string>;

async function startCore(gateway: LabHost, folder: string): Promise<RunningProcess> {
  const configFile = join(folder, 'gatehouse.yaml');
  const running = gateway.spawn([program, 'run', '--config', configFile]);
  await running.waitForOutput(/^gatehouse .* runs/m, START_TIMEOUT_MS);
  return running;
}

const program = join(import.meta.dirname, '../bin/gatehouse');
/** A start takes a second or two; only bounds a hang. */
const START_TIMEOUT_MS = 60_000;
const STOP_GRACE_MS = 10_000;

/** One WAN and one network, everything else as usual. */
export const configText = (options: {
  readonly folder: string;
  readonly fastPath?: FastPath;
}) => `version: 1
wan:
  interface: wan0
  address: ${bedAddresses.gatewayWan}/24
  gateway: ${bedAddresses.outside}
networks: { lan: { interfaces: [lan0], address: ${bedAddresses.gatewayLan}/16 } }
firewall: { rules: [] }
dataplane: { fastPath: ${options.fastPath ?? 'auto'} }
paths: { state: ${options.folder}/state, runtime: ${options.folder}/runtime }
`;

function setForwarding(gateway: LabHost, value: '0' | '1'): void {
  const paths = ['ipv4/ip_forward', 'ipv6/conf/all/forwarding'];
  const settings = paths.map((path) => ({ path: `/proc/sys/net/${path}`, value }));
  gateway.setSysctls(settings, 'required');
}

/** Rules, programs and connections are gone, whoever made them. */
async function clear(gateway: LabHost): Promise<void> {
  setForwarding(gateway, '0');
  await requireCommand(gateway, ['nft', 'flush', 'ruleset']);
  const { namespacePath: networkNamespace } = gateway;
  for (const name of ['wan0', 'lan0']) {
    for (const direction of tcDirections) {
      for (const place of ['counting', 'nat'] as const) {
        clearTcPlace({ interface: name, networkNamespace }, direction, place);
      }
    }
    await gateway.run(['ip', 'link', 'set', 'dev', name, 'xdpdrv', 'off'], { timeoutMs: 10_000 });
    // There is none unless a contender made it.
    await gateway.run(['tc', 'qdisc', 'del', 'dev', name, 'clsact'], { timeoutMs: 10_000 });
  }
  flushConntrack(gateway);
}
