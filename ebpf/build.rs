//! The kernel side reads registers by the names of the machine the programs will run on. The BPF target says
//! nothing about it, so agent/build.rs passes it on as `--cfg bpf_target_arch`; here the cfg is only declared.
fn main() {
    println!("cargo::rustc-check-cfg=cfg(bpf_target_arch, values(\"x86_64\", \"aarch64\"))");
}
