//go:build tools

// Package tools pins the CRI clients that the tests drive the daemon with.
package tools

import (
	_ "sigs.k8s.io/cri-tools/cmd/crictl"
	_ "sigs.k8s.io/cri-tools/cmd/critest"
)
