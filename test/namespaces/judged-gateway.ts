/**
 * A gateway between five TAP devices, with a table of the test that gives packets the mark that the
 * programs would give them, and asks conntrack for its opinion.
 */
import assert from 'node:assert/strict';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { PacketMark } from '../../src/abi/layouts.generated.ts';
import { compileRuleset } from '../../src/firewall/nft-document.ts';
import { markOf } from '../../src/firewall/packet-mark.ts';
import type { Ruleset } from '../../src/firewall/ruleset.ts';
import { openNft } from '../../src/linux/nft.ts';
import { TapDevice } from '../../src/linux/tap.ts';
import { gatewayMac, knowledgeByCode, placeNames, places, uniqueLocal } from './judged-packets.ts';

export const TIMEOUT_MS = 20_000;
const FRAME_BYTES_MAX = 2_048;

export class JudgedGateway {
  readonly #lab: Lab;
  readonly #host: LabHost;
  readonly #taps: ReadonlyMap<string, TapDevice>;

  private constructor(lab: Lab) {
    this.#lab = lab;
    this.#host = lab.host('gateway');
    const { namespacePath } = this.#host;
    this.#taps = new Map(
      placeNames.map((interfaceName) => {
        return [interfaceName, TapDevice.open({ namespacePath, interfaceName })] as const;
      }),
    );
  }

  static async start(name: string): Promise<JudgedGateway> {
    const lab = await Lab.start({ hosts: { gateway: {} } }, { name });
    const gateway = new JudgedGateway(lab);
    gateway.#host.setSysctls(
      [
        ['ipv4/ip_forward', '1'],
        ['ipv6/conf/all/forwarding', '1'],
        ...['all', 'default', ...placeNames].flatMap((each) => [
          [`ipv4/conf/${each}/rp_filter`, '0'],
          [`ipv4/conf/${each}/send_redirects`, '0'],
        ]),
      ].map(([path = '', value = '']) => ({ path: `/proc/sys/net/${path}`, value })),
      'required',
    );
    const lines = ['link set lo up'];
    for (const place of placeNames) {
      // No neighbours are asked for, no address made: nothing moves counters but the test.
      lines.push(`link set dev ${place} addrgenmode none`);
      lines.push(`link set dev ${place} address ${gatewayMac} arp off up`);
      for (const address of places[place].own) {
        lines.push(`address add ${address} dev ${place}${address.includes(':') ? ' nodad' : ''}`);
      }
    }
    lines.push('route add default dev wan0', '-6 route add default dev wan0');
    lines.push(`-6 route add ${uniqueLocal.prefix} dev ${uniqueLocal.place}`);
    for (const line of lines) await gateway.run('ip', ...line.split(' '));
    await gateway.run('nft', tablesOfTest);
    return gateway;
  }

  async stop(): Promise<void> {
    for (const tap of this.#taps.values()) tap.close();
    await this.#lab.stop();
  }

  async run(...argv: [string, ...string[]]): Promise<string> {
    const result = await this.#host.run(argv, { timeoutMs: TIMEOUT_MS });
    assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
    return result.stdout;
  }

  async apply(ruleset: Ruleset): Promise<void> {
    const nft = openNft({ networkNamespace: this.#host.namespacePath });
    const document = compileRuleset(ruleset, { replacing: 'table' });
    assert.deepEqual(await nft.apply(document), { success: true });
  }

  /** Packets of each rule by `CHAIN COMMENT`. */
  async readCounters(): Promise<ReadonlyMap<string, number>> {
    const { nftables } = JSON.parse(await this.run('nft', '-j', 'list', 'ruleset')) as {
      nftables: { rule?: { chain: string; comment?: string; expr: Record<string, unknown>[] } }[];
    };
    const counts = new Map<string, number>();
    for (const { rule } of nftables) {
      const counted = rule?.expr.find((one) => 'counter' in one)?.['counter'];
      if (rule === undefined || counted === undefined) continue;
      counts.set(`${rule.chain} ${rule.comment}`, (counted as { packets: number }).packets);
    }
    return counts;
  }

  /** The next frame that the gateway has sent there. */
  readFrame(interfaceName: string): Uint8Array | undefined {
    const buffer = new Uint8Array(FRAME_BYTES_MAX);
    const length = this.#tap(interfaceName).readFrame(buffer);
    return length === undefined ? undefined : buffer.subarray(0, length);
  }

  writeFrame(interfaceName: string, frame: Uint8Array<ArrayBuffer>): void {
    assert.ok(this.#tap(interfaceName).writeFrame(frame));
  }

  /** Forgets all frames that the gateway has sent. */
  drain(): void {
    for (const name of placeNames) while (this.readFrame(name) !== undefined) {}
  }

  #tap(interfaceName: string): TapDevice {
    const tap = this.#taps.get(interfaceName);
    assert.ok(tap, interfaceName);
    return tap;
  }
}

/** What conntrack can say; each is counted as `states STATE`. */
export const states = ['new', 'established', 'related', 'invalid', 'untracked'] as const;
/** All bits that are not ours, so that a comparison without its mask would fail. */
const MARK_OF_OTHERS = ~PacketMark.ours >>> 0;
const tablesOfTest = [
  'table inet asked {',
  ' chain marks { type filter hook prerouting priority -400;',
  ...[...knowledgeByCode].flatMap(([code, knowledge]) => {
    const statement = `meta mark set ${markOf(knowledge) + MARK_OF_OTHERS};`;
    return ['ip', 'ip6'].map((family) => `  ${family} dscp ${code} ${statement}`);
  }),
  ' }',
  ' chain states { type filter hook prerouting priority -150;',
  ...states.map((state) => `  ct state ${state} counter comment "${state}";`),
  ' }',
  '}',
].join('\n');
