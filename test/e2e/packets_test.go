// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Addresses in a cluster of hack/cluster.
const (
	apiServer     = "198.19.0.1:443" // its Service
	outsideIP     = "198.18.255.1"
	outsideHost   = outsideIP + ":9" // nothing listens there: an answer is a refusal
	corednsName   = "kubernetes.default.svc.cluster.local"
	dialTimeout   = "-timeout=500ms"
	streamTimeout = "-timeout=200ms"
)

// blocked is a packet without an answer. A refusal is an answer.
const blocked = "BLOCKED"

// flow is traffic from a pod, or with none from a host outside of the cluster.
type flow struct {
	from *corev1.Pod
	args []string
}

func tcp(from *corev1.Pod, to string) flow { return flow{from, []string{"dial", dialTimeout, to}} }

func udp(from *corev1.Pod, to string) flow {
	return flow{from, []string{"dial", "-net=udp", dialTimeout, to}}
}

// lookup asks the cluster's DNS for a name.
func lookup(from *corev1.Pod, transport string) flow {
	return flow{from, []string{"resolve", "-net=" + transport, dialTimeout, corednsName}}
}

func (f flow) String() string {
	from := "outside"
	if f.from != nil {
		from = f.from.Namespace + "/" + f.from.Name
	}
	return from + ": " + strings.Join(f.args, " ")
}

// passes tries once.
func (f flow) passes(t *testing.T) bool {
	t.Helper()
	var out string
	var err error
	if f.from == nil {
		out, err = onMachine(t.Context(), "outside", append([]string{"bin/node/nodekit"}, f.args...)...)
	} else {
		out, err = kubectl(t.Context(), append([]string{"-n", f.from.Namespace, "exec", f.from.Name, "--", "/nodekit"}, f.args...)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return !strings.HasPrefix(out, blocked)
}

// mustPass waits until packets pass.
func (f flow) mustPass(t *testing.T) {
	t.Helper()
	f.await(t, true)
}

// mustBeDenied waits until packets are denied; where nothing enforces they must pass.
func (f flow) mustBeDenied(t *testing.T) {
	t.Helper()
	f.await(t, !env.enforces)
}

// await waits until two packets in a row pass, or do not.
func (f flow) await(t *testing.T, pass bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s passes: %t", f, pass), func() error {
		for range 2 {
			if f.passes(t) != pass {
				return fmt.Errorf("passes: %t", !pass)
			}
		}
		return nil
	})
}

// at returns where a pod serves.
func at(pod *corev1.Pod, port int) string { return fmt.Sprintf("%s:%d", pod.Status.PodIP, port) }

// streamArgs are of a container that dials without a rest, from its first instruction on.
func streamArgs(to string) []string { return []string{"dial", streamTimeout, "-for=1h", to} }

// startStream starts a pod that dials without a rest.
func startStream(t *testing.T, namespace, to string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: uniqueName("stream")},
		Spec:       podSpec(streamArgs(to)...),
	}
	start(t, pod)
	return pod
}

// tally is what became of a stream so far.
type tally struct {
	tries, through int
	last           string
	log            string
	// stopped is when tries ceased to get through, in milliseconds since the stream's first instruction.
	stopped int
}

func tallyOf(t *testing.T, namespace, pod string) tally {
	t.Helper()
	var out tally
	eventually(t, "stream "+pod+" tells", func() error {
		out = tally{log: run(t, "-n", namespace, "logs", pod)}
		for line := range strings.Lines(out.log) {
			ms, before := 0, out.last
			if _, err := fmt.Sscan(line, &ms, &out.tries, &out.through, &out.last); err != nil {
				return err
			}
			if out.last == blocked && before != "" && before != blocked {
				out.stopped = ms
			}
		}
		if out.tries == 0 {
			return errors.New("nothing yet")
		}
		return nil
	})
	return out
}

// awaitTries waits until a stream has tried n times more than before.
func awaitTries(t *testing.T, stream *corev1.Pod, before tally, n int) tally {
	t.Helper()
	var now tally
	eventually(t, fmt.Sprintf("%d more tries", n), func() error {
		if now = tallyOf(t, stream.Namespace, stream.Name); now.tries < before.tries+n {
			return fmt.Errorf("%d tries", now.tries-before.tries)
		}
		return nil
	})
	return now
}

// awaitLast waits until the last try of a stream passes, or does not.
func awaitLast(t *testing.T, stream *corev1.Pod, passes bool) tally {
	t.Helper()
	var now tally
	eventually(t, fmt.Sprintf("stream %s passes: %t", stream.Name, passes), func() error {
		if now = tallyOf(t, stream.Namespace, stream.Name); (now.last != blocked) != passes {
			return errors.New(now.last)
		}
		return nil
	})
	return now
}

// mustHaveBeenDenied checks that nothing got through between two tallies. Where nothing enforces everything must have, but
// for what a machine under load is late with.
func mustHaveBeenDenied(t *testing.T, before, after tally) {
	t.Helper()
	tries, through := after.tries-before.tries, after.through-before.through
	t.Logf("%d tries, %d got through", tries, through)
	switch {
	case tries < 10:
		t.Errorf("%d tries are too few to tell", tries)
	case env.enforces && through != 0:
		t.Errorf("%d of %d tries got through:\n%s", through, tries, after.log)
	case !env.enforces && 10*through < 9*tries:
		t.Errorf("nothing enforces here, and yet only %d of %d tries got through:\n%s", through, tries, after.log)
	}
}
