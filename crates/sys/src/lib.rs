//! Unsafe and the kernel: workers, descriptor passing, netlink, namespaces.
