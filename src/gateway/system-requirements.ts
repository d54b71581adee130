/** What the program asks of packages, folders and limits around it. */
import type {
  FolderFacts,
  NftFeature,
  NftRulesetFacts,
  OtherFirewall,
  RuntimeFolderFacts,
} from './machine-facts.ts';
import {
  installing,
  type Judgement,
  judgeProbed,
  met,
  type Requirement,
  unmet,
} from './machine-requirement.ts';

/** The release whose JSON the ruleset is written in and read from; Debian 12 has it. */
const NFT_MIN = [1, 0, 6] as const;
/** A journal and a database of a home's leases, devices and revisions, twice while rewritten. */
const STATE_BYTES_MIN = 64 * 1024 * 1024;
/** Journals, databases, damaged copies that are kept, files of the roles. */
const STATE_INODES_MIN = 256;
/** Connections of the API, sockets of the roles, maps, children. */
const OPEN_FILES_MIN = 1024;
/** Core and roles are some 40 MiB each, and a ruleset with large tables takes as much again. */
const MEMORY_BYTES_MIN = 256 * 1024 * 1024;
/** Certificates that are valid today were made after this. */
const YEAR_MIN = 2025;
/** Owners named in one finding; a machine with more has a table of its own for each container. */
const OTHERS_SHOWN_MAX = 8;
const MEBIBYTE = 1024 * 1024;

export const systemRequirements: readonly Requirement[] = [
  {
    name: 'nft',
    requirement: `nft ${NFT_MIN.join('.')} or newer`,
    otherwise: 'missing',
    judge: ({ nftVersion }) =>
      judgeProbed(nftVersion, judgeNftVersion, `${installing('nftables')} (Debian 12 or newer)`),
  },
  {
    name: 'nft-ruleset',
    requirement: "a kernel that takes the firewall's rules",
    otherwise: 'missing',
    judge: ({ nftRuleset }) => judgeProbed(nftRuleset, judgeNftRuleset),
  },
  {
    name: 'other-firewalls',
    requirement: 'no other filter on the way of the packets',
    otherwise: 'limited',
    judge: ({ otherFirewalls }) => judgeProbed(otherFirewalls, judgeOtherFirewalls),
  },
  {
    name: 'forwarding',
    requirement: 'the right to switch forwarding on (net.ipv4.ip_forward)',
    otherwise: 'missing',
    judge: ({ forwardingSetting }) =>
      judgeProbed(forwardingSetting, (attempt) =>
        attempt.success
          ? met('it can be written')
          : unmet(
              attempt.reason,
              'Run it as root with /proc/sys writable; in a container, --privileged or a ' +
                'writable /proc/sys/net.',
            ),
      ),
  },
  {
    name: 'protocol-names',
    requirement: '/etc/protocols, whose names nft writes in its listings',
    otherwise: 'missing',
    judge: ({ hasProtocolNames }) =>
      judgeProbed(
        hasProtocolNames,
        (isThere) =>
          isThere
            ? met('it names the protocols')
            : unmet('it is missing or names none', installing('netbase')),
        installing('netbase'),
      ),
  },
  {
    name: 'setpriv',
    requirement: 'setpriv of util-linux, which ends our children with us',
    otherwise: 'missing',
    judge: ({ setpriv }) =>
      judgeProbed(setpriv, (attempt) =>
        attempt.success
          ? met('it works')
          : unmet(attempt.reason, `${installing('util-linux')} (BusyBox's own is not enough)`),
      ),
  },
  {
    name: 'account',
    requirement: 'the account gatehouse, which roles run as',
    otherwise: 'missing',
    judge: ({ hasAccount }) =>
      judgeProbed(hasAccount, (isThere) =>
        isThere
          ? met('it exists')
          : unmet(
              'there is no such account',
              'useradd --system --user-group --no-create-home --shell /usr/sbin/nologin gatehouse',
            ),
      ),
  },
  {
    name: 'state-folder',
    requirement: 'a state folder that takes files',
    otherwise: 'missing',
    judge: ({ stateFolder }) => judgeProbed(stateFolder, judgeStateFolder, stateRemedy),
  },
  {
    name: 'state-space',
    requirement: `${STATE_BYTES_MIN / MEBIBYTE} MiB and ${STATE_INODES_MIN} inodes free for state`,
    otherwise: 'missing',
    judge: ({ stateFolder }) => judgeProbed(stateFolder, judgeStateSpace, stateRemedy),
  },
  {
    name: 'state-durability',
    requirement: 'a state folder on a disk',
    otherwise: 'limited',
    judge: ({ stateFolder }) =>
      judgeProbed(stateFolder, ({ isInMemory, place }) =>
        isInMemory
          ? unmet(
              `${place} is in memory: leases, devices and history are lost at each reboot`,
              stateRemedy,
            )
          : met(`${place} is on a disk`),
      ),
  },
  {
    name: 'runtime-folder',
    requirement: 'a runtime folder that takes Unix sockets and locks',
    otherwise: 'missing',
    judge: ({ runtimeFolder }) =>
      judgeProbed(runtimeFolder, judgeRuntimeFolder, 'Set paths.runtime to a folder on a tmpfs.'),
  },
  {
    name: 'open-files',
    requirement: `${OPEN_FILES_MIN} open files`,
    otherwise: 'missing',
    judge: ({ openFilesMax }) =>
      judgeProbed(openFilesMax, (count) =>
        count >= OPEN_FILES_MIN
          ? met(`${count === Number.POSITIVE_INFINITY ? 'any number' : count} may be open`)
          : unmet(
              `only ${count} may be open`,
              'ulimit -n 65536; in a unit of systemd, LimitNOFILE=65536',
            ),
      ),
  },
  {
    name: 'memory',
    requirement: `${MEMORY_BYTES_MIN / MEBIBYTE} MiB of memory in its control group`,
    otherwise: 'limited',
    judge: ({ memoryBytesMax }) => judgeProbed(memoryBytesMax, judgeMemory),
  },
  {
    name: 'clock',
    requirement: 'a clock that is about right',
    otherwise: 'limited',
    judge: ({ year }) => judgeClock(year),
  },
];

const stateRemedy = 'Set paths.state in the config to a writable folder on a disk with room.';

function judgeNftVersion(version: string): Judgement {
  const numbers = version.split('.').map(Number);
  for (const [index, wanted] of NFT_MIN.entries()) {
    const found = numbers[index] ?? 0;
    if (found > wanted) break;
    if (found === wanted) continue;
    return unmet(
      `nft ${version} is older`,
      `${installing('nftables')} (Debian 12 or newer has a newer one)`,
    );
  }
  return met(`nft ${version}`);
}

/** Where Debian's kernels have what rules are made of. */
const nftModules: Readonly<Record<NftFeature, string>> = {
  conntrack: 'nft_ct',
  fib: 'nft_fib_inet',
  reject: 'nft_reject_inet',
};

function judgeNftRuleset({ check, lacking }: NftRulesetFacts): Judgement {
  if (check.success) return met('the kernel would take the default posture');
  if (lacking.length === 0) {
    return unmet(check.reason, 'Run it as root with CAP_NET_ADMIN, on a kernel with nf_tables.');
  }
  const modules = lacking.map((feature) => nftModules[feature]).join(' ');
  return unmet(
    `the kernel lacks ${lacking.join(', ')}: ${check.reason}`,
    `modprobe -a ${modules}; Debian's own kernels have them all.`,
  );
}

/** How each is switched off by who wants that; nothing of theirs is ever touched by us. */
const ownerRemedies: Readonly<Record<string, string>> = {
  ufw: 'ufw disable',
  firewalld: 'systemctl disable --now firewalld',
};

function judgeOtherFirewalls(others: readonly OtherFirewall[]): Judgement {
  if (others.length === 0) return met('there is none');
  const names = others.map(({ owner, table }) => {
    return owner === undefined ? table : `${table} (${owner})`;
  });
  const more = names.length - OTHERS_SHOWN_MAX;
  const shown = names.slice(0, OTHERS_SHOWN_MAX).join(', ') + (more > 0 ? `, ${more} more` : '');
  const owners = [...new Set(others.map(({ owner }) => owner ?? ''))];
  const commands = owners.map((owner) => ownerRemedies[owner]).filter((one) => one !== undefined);
  const otherwise = 'allow there what shall pass here, or remove them by what made them';
  return unmet(
    `their rules hold too: a packet passes only if each of them lets it: ${shown}`,
    commands.length === 0 ? `Look (nft list ruleset), and ${otherwise}.` : commands.join('; '),
  );
}

function judgeStateFolder({ place, write }: FolderFacts): Judgement {
  if (write.success) return met(`${place} takes files`);
  const isReadOnly = write.code === 'EROFS';
  const remedy = isReadOnly ? `mount -o remount,rw the file system of ${place}, or: ` : '';
  return unmet(`${place}: ${write.reason}`, `${remedy}${stateRemedy}`);
}

function judgeStateSpace({ place, freeBytes, freeInodes }: FolderFacts): Judgement {
  const free = `${Math.floor(freeBytes / MEBIBYTE)} MiB`;
  if (freeBytes < STATE_BYTES_MIN) {
    return unmet(`only ${free} are free at ${place}`, stateRemedy);
  }
  if (freeInodes !== undefined && freeInodes < STATE_INODES_MIN) {
    return unmet(`only ${freeInodes} inodes are free at ${place}`, stateRemedy);
  }
  return met(`${free} are free at ${place}`);
}

/** `sun_path` of `struct sockaddr_un` with its final zero. */
const SOCKET_PATH_BYTES_MAX = 107;
/** Room for the names of sockets behind the folder, with the slash. */
const SOCKET_NAME_BYTES_MAX = 27;
const FOLDER_BYTES_MAX = SOCKET_PATH_BYTES_MAX - SOCKET_NAME_BYTES_MAX;

function judgeRuntimeFolder({ folder, place, socket, lock }: RuntimeFolderFacts): Judgement {
  const remedy = 'Set paths.runtime to a folder on a tmpfs, such as /run/gatehouse.';
  // Paths of the config are ASCII, so characters are bytes.
  if (folder.length > FOLDER_BYTES_MAX) {
    const detail = `its path has ${folder.length} bytes, and sockets take ${FOLDER_BYTES_MAX}`;
    return unmet(detail, remedy);
  }
  if (!socket.success) return unmet(`${place} takes no Unix socket: ${socket.reason}`, remedy);
  if (!lock.success) return unmet(`${place} takes no lock: ${lock.reason}`, remedy);
  return met(`${place} takes both`);
}

function judgeMemory(bytes: number | undefined): Judgement {
  if (bytes === undefined) return met('no control group limits it');
  const shown = `${Math.floor(bytes / MEBIBYTE)} MiB`;
  if (bytes >= MEMORY_BYTES_MIN) return met(`${shown} are allowed`);
  return unmet(
    `only ${shown} are allowed: large tables and captures may end the program`,
    'In a unit of systemd, MemoryMax=512M or more; in a container, --memory 512m or more.',
  );
}

function judgeClock(year: number): Judgement {
  if (year >= YEAR_MIN) return met(`it says ${year}`);
  return unmet(
    `it says ${year}: certificates look not valid yet, so DNS over TLS and ACME fail`,
    'timedatectl set-ntp true, or date --set with the right time',
  );
}
