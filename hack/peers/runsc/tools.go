//go:build tools

// Package tools pins the gVisor that tests run pods with.
package tools

import _ "gvisor.dev/gvisor/runsc"
