/** What is asked of a machine to tell whether the program can run there. */

/** An answer, or why there is none. */
export type Probed<T> =
  | { readonly value: T }
  | { readonly value?: never; readonly failure: string };

/** Something that was tried. `code` is the system's word for the failure: `EPERM`. */
export type Attempt =
  | { readonly success: true }
  | { readonly success: false; readonly reason: string; readonly code?: string };

export interface MachineFacts {
  /** As `uname -r` prints it. */
  readonly kernelRelease: string;
  /** The kernel describes its types (BTF). */
  readonly hasKernelTypes: Probed<boolean>;
  readonly privileges: Probed<PrivilegeFacts>;
  readonly bpf: Probed<BpfFacts>;
  /** `net.core.bpf_jit_enable`; undefined where this network namespace does not show it. */
  readonly jitSetting: Probed<string | undefined>;
  /** A bpffs is mounted at /sys/fs/bpf. */
  readonly hasBpffs: Probed<boolean>;
  /** The version's numbers: `1.0.6`. */
  readonly nftVersion: Probed<string>;
  readonly nftRuleset: Probed<NftRulesetFacts>;
  /** Filters of others that see the same packets. */
  readonly otherFirewalls: Probed<readonly OtherFirewall[]>;
  /** /etc/protocols names at least TCP. */
  readonly hasProtocolNames: Probed<boolean>;
  readonly setpriv: Probed<Attempt>;
  readonly hasAccount: Probed<boolean>;
  readonly stateFolder: Probed<FolderFacts>;
  readonly runtimeFolder: Probed<RuntimeFolderFacts>;
  /** Opening net.ipv4.ip_forward for writing. */
  readonly forwardingSetting: Probed<Attempt>;
  /** RLIMIT_NOFILE, as far as the process may raise it. */
  readonly openFilesMax: Probed<number>;
  /** RLIMIT_MEMLOCK. */
  readonly lockedMemoryBytesMax: Probed<number>;
  /** The narrowest limit of the control groups around us; undefined without any. */
  readonly memoryBytesMax: Probed<number | undefined>;
  /** By the wall clock. */
  readonly year: number;
}

export interface PrivilegeFacts {
  readonly userId: number;
  /** CapEff, one bit a capability. */
  readonly capabilities: bigint;
  readonly isUnderSeccomp: boolean;
  /** Its root is not the machine's. */
  readonly isInUserNamespace: boolean;
}

/** Each step is tried when the one before it was well; what was not tried is absent. */
export interface BpfFacts {
  /** libbpf could be loaded. */
  readonly library: Attempt;
  /** The compiled object is there. */
  readonly object?: Attempt;
  /** The kernel took it. */
  readonly load?: Attempt;
  /** The kernel made machine code of it. */
  readonly isCompiled?: boolean;
  /** At tc, in a network namespace of the probe's own. */
  readonly attach?: Attempt;
  /** Why no such namespace could be made. */
  readonly attachUntried?: string;
}

export type NftFeature = 'conntrack' | 'fib' | 'reject';

export interface NftRulesetFacts {
  /** `nft -c` of the default posture. */
  readonly check: Attempt;
  /** What it refuses even alone, when it refuses the whole. */
  readonly lacking: readonly NftFeature[];
}

export interface OtherFirewall {
  /** The program behind it, as far as its names tell: `ufw`, `docker`. */
  readonly owner?: string;
  /** `ip filter`, or a table of the older iptables. */
  readonly table: string;
  /** It may look at packets that are forwarded, and not only at those of the machine itself. */
  readonly seesForwarded: boolean;
}

export interface FolderFacts {
  /** Where the answer was found: the folder, or the nearest one above that exists. */
  readonly place: string;
  /** Making a file there. */
  readonly write: Attempt;
  readonly freeBytes: number;
  /** Undefined on file systems that do not count them. */
  readonly freeInodes: number | undefined;
  /** tmpfs or ramfs. */
  readonly isInMemory: boolean;
}

export interface RuntimeFolderFacts {
  readonly folder: string;
  readonly place: string;
  /** Making a Unix socket there. */
  readonly socket: Attempt;
  /** Locking a file there. */
  readonly lock: Attempt;
}
