//go:build tools

// Package kindtools pins what a kind node needs beside the programs of hack/kube-tools, and kind
// itself. etcd and CoreDNS are those that this version of kubeadm asks for.
package kindtools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kubeadm"
	_ "sigs.k8s.io/kind"
)
