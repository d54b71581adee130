/**
 * The first thing that the gateway does with the kernel: refuse everything, and forward only then.
 * Between the start of the machine and the first rules no packet is forwarded.
 */
import type { Nft, NftFailure } from '../firewall/nft.ts';
import { compileRuleset } from '../firewall/nft-document.ts';
import { expectedTable, type NftTable } from '../firewall/nft-table.ts';
import { defaultPosture } from '../firewall/plan-ruleset.ts';
import { writeKernelSetting } from './kernel-settings.ts';
import { inNetworkNamespace } from './libc.ts';

export interface PostureOptions {
  readonly nft: Nft;
  /** Whose forwarding is switched. The same as that of `nft`; default: our own. */
  readonly networkNamespace?: string;
  /** Where the kernel's settings lie. Default: `/proc/sys`. */
  readonly sysctlDirectory?: string;
}

export type PostureResult =
  /** `kept`: our rules of an earlier run were in place and stay until the first apply. */
  | { readonly success: true; readonly table: 'loaded' | 'kept' }
  /** Forwarding is off. */
  | { readonly success: false; readonly failure: NftFailure };

/**
 * Puts the default posture in place unless our own rules are there already, then switches
 * forwarding on for both families. When no rules can be put in place, forwarding is switched off.
 *
 * @throws Error when a setting of the kernel cannot be written
 */
export async function protectThenForward(options: PostureOptions): Promise<PostureResult> {
  const failure = await putInPlace(options.nft);
  setForwarding(typeof failure === 'string', options);
  return typeof failure === 'string'
    ? { success: true, table: failure }
    : { success: false, failure };
}

async function putInPlace(nft: Nft): Promise<'loaded' | 'kept' | NftFailure> {
  const document = compileRuleset(defaultPosture(), { replacing: 'table' });
  const first = await nft.list();
  // Good rules must not give way to the posture because nft failed once.
  const listing = first.success ? first : await nft.list();
  if (listing.success && listing.table !== undefined) {
    if (guards(listing.table, expectedTable(document))) return 'kept';
  }
  const result = await nft.apply(document);
  return result.success ? 'loaded' : result;
}

/** Whether a table refuses by itself whatever the default posture refuses. */
function guards(table: NftTable, posture: NftTable): boolean {
  const refusing = posture.chains.filter(({ hook }) => hook.endsWith('policy drop'));
  return (
    !table.hasFlags &&
    refusing.every(({ name, hook }) =>
      table.chains.some((chain) => chain.name === name && chain.hook === hook),
    )
  );
}

const forwardingSettings = [
  { path: 'net/ipv4/ip_forward' },
  { path: 'net/ipv6/conf/all/forwarding', mayBeAbsent: true },
];

/** @throws Error when a setting cannot be written; a kernel without IPv6 lacks its setting */
export function setForwarding(
  on: boolean,
  place: Pick<PostureOptions, 'networkNamespace' | 'sysctlDirectory'> = {},
): void {
  const { networkNamespace, sysctlDirectory } = place;
  const write = () => {
    for (const setting of forwardingSettings) {
      writeKernelSetting({ ...setting, value: on ? '1' : '0' }, sysctlDirectory);
    }
  };
  if (networkNamespace === undefined) write();
  else inNetworkNamespace(networkNamespace, write);
}
