//! The rights that gathering needs, and why each. Reads what this process may do; changes nothing: rights are
//! given by whoever starts the program (root, or capabilities on the file or the agent's pod).
//!
//! They are kept until the agent ends: the counters are read again after capturing, with the same rights.

use std::fs;

/// A right that gathering on a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Right {
    /// As in capabilities(7).
    pub(crate) name: &'static str,
    /// What it is needed for.
    pub(crate) reason: &'static str,
    /// Its bit in `CapEff`.
    bit: u8,
}

/// All of them.
pub(crate) const NEEDED: [Right; 4] = [
    Right { name: "CAP_NET_RAW", reason: "to capture frames, and to send --probe icmp", bit: 13 },
    Right { name: "CAP_NET_ADMIN", reason: "to read iptables counters and connection tracking", bit: 12 },
    Right { name: "CAP_SYS_ADMIN", reason: "to enter the pods' network namespaces", bit: 21 },
    Right { name: "CAP_SYS_PTRACE", reason: "to find the pods' network namespaces in /proc", bit: 19 },
];

/// What only the kernel's own word needs; the trace goes on without. `CAP_SYS_ADMIN` stands for the first two.
pub(crate) const FOR_KERNEL: [Right; 3] = [
    Right { name: "CAP_BPF", reason: "to load the program that tells of dropped packets", bit: 39 },
    Right { name: "CAP_PERFMON", reason: "to put it on a tracepoint and read the kernel's memory", bit: 38 },
    Right { name: "CAP_SYSLOG", reason: "to name the kernel's functions from /proc/kallsyms", bit: 34 },
];
const SYS_ADMIN: u8 = 21;

/// The rights that this process lacks; none if that cannot be read.
pub(crate) fn lacking() -> Vec<Right> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    lacking_in(&status)
}

/// The rights for the kernel's own word that this process lacks; none if that cannot be read.
pub(crate) fn lacking_for_kernel() -> Vec<Right> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    lacking_for_kernel_in(&status)
}

/// What to do about "permission denied", in words.
pub(crate) fn remedy() -> String {
    let lacking = lacking();
    if lacking.is_empty() {
        return "every capability that is needed is there: a security module (AppArmor, SELinux, seccomp) or a \
                user namespace may stand in the way"
            .to_owned();
    }
    let list: Vec<String> =
        lacking.iter().map(|right| format!("{} ({})", right.name, right.reason)).collect();
    format!("run as root or grant {}", list.join(", "))
}

fn lacking_in(status: &str) -> Vec<Right> {
    match effective(status) {
        Some(bits) => NEEDED.into_iter().filter(|right| bits & (1 << right.bit) == 0).collect(),
        None => Vec::new(),
    }
}

fn lacking_for_kernel_in(status: &str) -> Vec<Right> {
    let Some(bits) = effective(status) else { return Vec::new() };
    let loads = |right: &Right| matches!(right.name, "CAP_BPF" | "CAP_PERFMON");
    let has = |right: &Right| bits & (1 << right.bit) != 0 || (loads(right) && bits & (1 << SYS_ADMIN) != 0);
    FOR_KERNEL.into_iter().filter(|right| loads(right) && !has(right)).collect()
}

fn effective(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let names = |status: &str| lacking_in(status).iter().map(|right| right.name).collect::<Vec<_>>();
        assert_eq!(names("CapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(names("Name:\tx\nCapEff:\t0000000000003000\n"), ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
        assert_eq!(names("CapEff:\t0000000000000000\n").len(), 4);
        assert_eq!(names("nothing of the kind"), Vec::<&str>::new());
    }

    #[test]
    fn the_kernels_word_has_rights_of_its_own() {
        let names =
            |status: &str| lacking_for_kernel_in(status).iter().map(|right| right.name).collect::<Vec<_>>();
        assert_eq!(names("CapEff:\t0000000000003000\n"), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(names("CapEff:\t0000008000003000\n"), ["CAP_PERFMON"]);
        assert_eq!(names("CapEff:\t0000000000200000\n"), Vec::<&str>::new());
        assert_eq!(names("nothing of the kind"), Vec::<&str>::new());
    }
}
