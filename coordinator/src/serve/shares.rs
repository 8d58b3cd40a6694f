//! What one address may have of something that is scarce for all.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Bits of an IPv6 address that one site does not choose freely: a host has all below them to itself.
const IPV6_SITE_BITS: u32 = 64;

/// Counts what each address holds.
#[derive(Debug)]
pub(super) struct Shares {
    per_address: usize,
    held: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One of an address's places, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    site: IpAddr,
}

impl Shares {
    /// Each address may hold so many.
    pub(super) fn new(per_address: usize) -> Arc<Self> {
        Arc::new(Self { per_address, held: Mutex::default() })
    }

    /// A place for `address`, unless it has all that it may.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let site = site(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(site).or_default();
        if self.per_address <= *count {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Share { shares: Arc::clone(self), site })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.site) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.site);
            }
        }
    }
}

fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - IPV6_SITE_BITS))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_no_other_s() {
        let shares = Shares::new(2);
        let at = |text: &str| text.parse::<IpAddr>().expect("an address");
        let first = shares.take(at("192.0.2.1"));
        let second = shares.take(at("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some() && shares.take(at("192.0.2.1")).is_none());
        assert!(shares.take(at("192.0.2.2")).is_some());
        drop(first);
        assert!(shares.take(at("192.0.2.1")).is_some());
        let near = [shares.take(at("2001:db8::1")), shares.take(at("2001:db8::2"))];
        assert!(shares.take(at("2001:db8::3")).is_none() && shares.take(at("2001:db8:0:1::1")).is_some());
        drop((near, second));
        assert!(shares.held.lock().expect("whole").is_empty());
    }
}
