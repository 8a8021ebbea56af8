# `docker build -t nodeprobe .`: compiles nodeprobe and puts it alone into an image, as `cargo xtask dist` does. The kernel's
# programs are compiled with Debian's Rust for BPF, which set-up installs.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo xtask dist

# One static program, certificates, licences: no shell, no package manager, no library.
FROM scratch
COPY --from=build /source/target/dist/rootfs/ /
ENV PATH=/usr/bin
ENTRYPOINT ["/usr/bin/nodeprobe"]
CMD ["run"]
