// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

// orphanDir makes TestOrphan the victim of TestProcessesDieWithTheirParent.
const orphanDir = "TEST_CLUSTER_ORPHAN_DIR"

func assets() string {
	return cluster.Assets(filepath.Join("..", ".."), os.Getenv("KUBEBUILDER_ASSETS"))
}

func TestControlPlane(t *testing.T) {
	dir := t.TempDir()
	auditLog := filepath.Join(dir, "audit", "audit.log")
	c := start(t, cluster.Options{Dir: dir, ControllerManager: true, Scheduler: true, AuditLog: auditLog})
	client := kubernetes.NewForConfigOrDie(c.Config())

	version, err := client.Discovery().ServerVersion()
	if err != nil || version.GitVersion != "v1.37.2" {
		t.Errorf("server version = %v, %v; want v1.37.2", version, err)
	}

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "probe-me"}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "service account default", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(namespace.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	eventually(t, "EndpointSlice default/kubernetes with an address", func(ctx context.Context) error {
		slice, err := client.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		if err == nil && len(slice.Endpoints) == 0 {
			err = errors.New("no endpoints")
		}
		return err
	})
	checkIdentities(t, c, client)

	if err := c.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), namespace.Name, metav1.GetOptions{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	log, err := os.ReadFile(auditLog)
	if err != nil || !bytes.Contains(log, []byte(`"/api/v1/namespaces/probe-me"`)) || bytes.Contains(log, []byte("RequestReceived")) {
		t.Errorf("audit log of %d bytes, %v; want the reads of namespace probe-me, without stage RequestReceived", len(log), err)
	}

	pids := pidsOf(t, dir)
	if len(pids) != 4 {
		t.Errorf("%d processes recorded, want 4: %v", len(pids), pids)
	}
	began := time.Now()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("Stopped in %.1f s", time.Since(began).Seconds())
	wantGone(t, pids)
	if left, err := filepath.Glob(filepath.Join(dir, "etcd*")); err != nil || len(left) > 0 {
		t.Errorf("Stop leaves %v, %v", left, err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

// checkIdentities: RBAC tells a plain user from an administrator, and tokens work.
func checkIdentities(t *testing.T, c *cluster.Cluster, client kubernetes.Interface) {
	t.Helper()
	config, _, err := c.ConfigFor("team:jane", "team:payments")
	if err != nil {
		t.Fatal(err)
	}
	jane := kubernetes.NewForConfigOrDie(config)
	if _, err := jane.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing namespaces as jane: %v, want Forbidden", err)
	}

	token, err := client.CoreV1().ServiceAccounts("probe-me").
		CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "token.kubeconfig")
	if err := c.KubeconfigForToken(path, token.Status.Token); err != nil {
		t.Fatal(err)
	}
	config, err = clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	review, err := kubernetes.NewForConfigOrDie(config).AuthenticationV1().SelfSubjectReviews().
		Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if want := "system:serviceaccount:probe-me:default"; err != nil || review.Status.UserInfo.Username != want {
		t.Errorf("the token authenticates as %v, %v; want %s", review, err, want)
	}
}

func TestMissingBinaryNamesTheRemedy(t *testing.T) {
	empty := t.TempDir()
	_, err := cluster.Start(t.Context(), cluster.Options{Dir: t.TempDir(), Assets: empty, ControllerManager: true})
	for _, want := range []string{"etcd, kube-apiserver, kube-controller-manager", empty, "make controlplane"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not contain %q", err, want)
		}
	}
}

func TestEarlyExitShowsTheLog(t *testing.T) {
	dir := t.TempDir()
	_, err := cluster.Start(t.Context(), cluster.Options{Dir: dir, Assets: assets(), ExtraAPIServerArgs: []string{"--no-such-flag"}})
	for _, want := range []string{"kube-apiserver ended early (exit status 1)", filepath.Join(dir, "logs", "kube-apiserver.log"), "unknown flag: --no-such-flag"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not contain %q", err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, cluster.PIDFile)); !os.IsNotExist(err) {
		t.Errorf("a failed start leaves its pids file: %v", err)
	}
}

func TestStopDetachedEndsWhatIsRecorded(t *testing.T) {
	dir := t.TempDir()
	c := start(t, cluster.Options{Dir: dir, Detach: true})
	if _, err := cluster.Start(t.Context(), cluster.Options{Dir: dir, Assets: assets()}); err == nil || !strings.Contains(err.Error(), "already runs") {
		t.Errorf("second start in the same directory: %v, want a refusal", err)
	}

	stranger := sleeper(t, "elsewhere")
	if err := c.Record("stranger", stranger); err == nil || !strings.Contains(err.Error(), "command line") {
		t.Errorf("recording a process that does not name the directory: %v, want a refusal", err)
	}
	if err := c.Record("operator", sleeper(t, c.Kubeconfig())); err != nil {
		t.Fatal(err)
	}
	pids := pidsOf(t, dir)
	if len(pids) != 3 {
		t.Errorf("%d processes recorded, want 3: %v", len(pids), pids)
	}
	if err := cluster.StopDetached(dir); err != nil {
		t.Fatal(err)
	}
	wantGone(t, pids)
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger is gone: %v", err)
	}
	if err := cluster.StopDetached(dir); err != nil {
		t.Errorf("second StopDetached: %v", err)
	}
}

func TestStopDetachedSparesAReusedPID(t *testing.T) {
	dir := t.TempDir()
	later := sleeper(t, dir)
	record := fmt.Sprintf(`{"dir": %q, "processes": [{"name": "etcd", "pid": %d, "started": 1}]}`, dir, later.Process.Pid)
	if err := os.WriteFile(filepath.Join(dir, cluster.PIDFile), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cluster.StopDetached(dir); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if ended(later.Process.Pid) {
		t.Error("a process with the PID of a recorded one was ended")
	}
}

func TestProcessesDieWithTheirParent(t *testing.T) {
	dir := t.TempDir()
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOrphan$")
	parent.Env = append(os.Environ(), orphanDir+"="+dir)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(dir, "ready")
	eventually(t, "the child's control plane", func(context.Context) error {
		_, err := os.Stat(ready)
		return err
	})
	pids := pidsOf(t, dir)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	eventually(t, "the end of its processes", func(context.Context) error {
		if left := slices.DeleteFunc(pids, ended); len(left) > 0 {
			return fmt.Errorf("%v live on", left)
		}
		return nil
	})
}

// TestOrphan is the parent that TestProcessesDieWithTheirParent kills.
func TestOrphan(t *testing.T) {
	dir := os.Getenv(orphanDir)
	if dir == "" {
		t.Skip("runs only as a child of TestProcessesDieWithTheirParent")
	}
	start(t, cluster.Options{Dir: dir})
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

func start(t *testing.T, opts cluster.Options) *cluster.Cluster {
	t.Helper()
	opts.Assets, opts.Progress = assets(), t.Output()
	c, err := cluster.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// sleeper starts a process with word on its command line.
func sleeper(t *testing.T, word string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "while :; do sleep 1; done", word)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return cmd
}

func pidsOf(t *testing.T, dir string) []int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, cluster.PIDFile))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Processes []struct {
			PID int `json:"pid"`
		} `json:"processes"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, p := range file.Processes {
		pids = append(pids, p.PID)
	}
	return pids
}

func wantGone(t *testing.T, pids []int) {
	t.Helper()
	if left := slices.DeleteFunc(pids, ended); len(left) > 0 {
		t.Errorf("processes %v live on", left)
	}
}

// ended counts zombies as ended: in a container nobody may reap an orphan.
func ended(pid int) bool {
	state := stateOf(pid)
	return state == "" || state == "Z" || state == "X"
}

// stateOf returns the letter that follows the name in /proc/PID/stat.
func stateOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[0]
}

func eventually(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("waiting for %s: %v", what, last)
	}
}
