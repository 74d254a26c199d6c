// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/report"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	// reportPeriod is how often a report is looked at while what it says changes: counts change all day, and a report may be large.
	reportPeriod = time.Minute
	// reportAgain is how often it is looked at anyway, because somebody may have changed it.
	reportAgain = 10 * time.Minute
	// retryReport is how long to wait for what is about to change: a kind that is defined and not served yet, a report that is going.
	retryReport = 10 * time.Second
)

// Why a report is not written: not yet, or for a reason that was told.
var (
	errNotYet = errors.New("it cannot be written yet")
	errTold   = errors.New("it is not written")
)

// ReportReconciler writes the report of each baseline in every API of reports that is served. It reads no report but those by name, and
// keeps none: other tools fill clusters with theirs. A report goes with its baseline by its owner reference, which no deny has: nothing
// is open when it is gone.
type ReportReconciler struct {
	// Cache has the baselines; Live reads the reports.
	Cache, Live client.Reader
	Applier     *apply.Applier
	Platform    *Platform
	Store       *Store
	Managements *ManagementReconciler
	Recorder    events.EventRecorder
	Clock       clock.PassiveClock
	// Period is reportPeriod, but for tests.
	Period time.Duration

	// Of one worker.
	looked map[string]look    // by baseline
	told   map[string]problem // by baseline and definition
}

// look is when a report was looked at, and in which APIs.
type look struct {
	at   time.Time
	apis []report.API
}

// problem is why a report is not written: an event's reason, and words for people.
type problem struct{ reason, message string }

// Reconcile writes the reports of one baseline, if they are not as they should be. Cost: a request for each API and the size of the
// report, at most once in a period.
func (r *ReportReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	err := r.Cache.Get(ctx, req.NamespacedName, b)
	if apierrors.IsNotFound(err) {
		r.forget(req.Name)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading baseline %s: %w", req.Name, err)
	}
	apis := r.Platform.reports.list()
	now := clock.RealClock{}.Now() // not what is judged by, which may stand still
	last := r.looked[b.Name]
	if left := last.at.Add(r.Period).Sub(now); left > 0 && slices.Equal(last.apis, apis) {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	rep := r.collect(b)
	if len(apis) == 0 || !b.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	if rep == nil {
		return ctrl.Result{RequeueAfter: retryReport}, nil
	}
	r.looked[b.Name] = look{now, apis}
	var errs []error
	again := jitter(reportAgain)
	for _, api := range apis {
		switch err := r.write(ctx, rep, api); {
		case errors.Is(err, errNotYet), stale(err):
			delete(r.looked, b.Name)
			again = retryReport
		case errors.Is(err, errTold):
			again = min(again, r.Period)
		case err != nil:
			delete(r.looked, b.Name)
			errs = append(errs, err)
		}
	}
	return ctrl.Result{RequeueAfter: again}, errors.Join(errs...)
}

// collect returns the report of a baseline; nil while not everything is known, as after a start: the report that is there says more
// until then.
func (r *ReportReconciler) collect(b *pcinetv1alpha1.PCINetworkBaseline) *report.Report {
	tally := r.Store.Tally(b)
	_, judged := r.Managements.of(b)
	if b.Status.ObservedGeneration != b.Generation || tally.Behind > 0 || (!judged && !managesNothing(b)) {
		return nil
	}
	var found managementFindings
	if judged {
		found = r.Managements.findingsOf(b.Name)
	}
	var namespaces []management.Finding
	more := report.Counts{}
	for kind, n := range found.more {
		more[kind] += n
	}
	for _, o := range tally.Offenders {
		f := report.Namespace(o.Namespace, o.State, o.Worst)
		if len(namespaces) == report.MaxResults {
			more[f.Result]++
			continue
		}
		namespaces = append(namespaces, f)
	}
	return report.New(b, found.list, namespaces, more)
}

// write makes one report what it should be. Somebody else's of that name is left alone, and so is one that is going.
func (r *ReportReconciler) write(ctx context.Context, rep *report.Report, api report.API) error {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(api.GroupVersionKind)
	var current client.Object // a nil *Unstructured in it would not be nil
	b := rep.Baseline
	err := r.Live.Get(ctx, client.ObjectKey{Name: report.Name(b.Name)}, live)
	switch {
	case apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse): // it has no such path
		return errNotYet
	case apierrors.IsNotFound(err):
		live = nil
	case apierrors.IsForbidden(err):
		return r.tell(ctx, b, api, problem{message: "the operator has no right to: kubectl apply --server-side -k config/reports"})
	case err != nil:
		return fmt.Errorf("reading %s %s: %w", api.Kind, report.Name(b.Name), err)
	case !report.Ours(live, b):
		return r.tell(ctx, b, api, problem{reportNotWritten, fmt.Sprintf("%s %s is somebody else's. Delete or rename it.", api.Kind, live.GetName())})
	case live.GetDeletionTimestamp() != nil:
		return errNotYet
	default:
		current = live
	}
	intended, err := rep.Object(api, live, r.Clock.Now())
	if err != nil {
		return err
	}
	_, err = r.Applier.Write(ctx, intended, current)
	if reason := refusal(err); reason != "" {
		return r.tell(ctx, b, api, problem{reportNotWritten, fmt.Sprintf("%s %s could not be written: %s", api.Kind, intended.GetName(), cause(err))})
	}
	if err == nil {
		delete(r.told, b.Name+" "+api.Definition())
	}
	return err
}

// remembered returns what the reports of a baseline say of keys. A report that is not there, not readable or not ours says nothing.
func (r *ReportReconciler) remembered(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline) (map[string]snapshot.Keys, error) {
	for _, api := range report.APIs {
		live := &unstructured.Unstructured{}
		live.SetGroupVersionKind(api.GroupVersionKind)
		err := r.Live.Get(ctx, client.ObjectKey{Name: report.Name(b.Name)}, live)
		switch {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		case err != nil:
			return nil, err
		case report.Ours(live, b):
			return report.Keys(live), nil
		}
	}
	return nil, nil
}

// reportNotWritten is an event's reason.
const reportNotWritten = "ReportNotWritten"

// tell says once why a report is not written. That a right is missing is no event: whoever wants no reports does not grant it.
func (r *ReportReconciler) tell(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, api report.API, p problem) error {
	key := b.Name + " " + api.Definition()
	if r.told[key] == p {
		return errTold
	}
	r.told[key] = p
	ctrl.LoggerFrom(ctx).Info("A report is not written", "baseline", b.Name, "kind", api.Kind, "why", p.message)
	if p.reason != "" {
		r.Recorder.Eventf(b, nil, eventWarning, p.reason, "Report", "%s", p.message)
	}
	return errTold
}

func (r *ReportReconciler) forget(baseline string) {
	delete(r.looked, baseline)
	for key := range r.told {
		if strings.HasPrefix(key, baseline+" ") {
			delete(r.told, key)
		}
	}
}

// setupReports gives the reconciler a client of its own, whose kinds are a table and which knows no cache.
func setupReports(mgr manager.Manager, r *ReportReconciler) error {
	mapper := apimeta.NewDefaultRESTMapper(nil)
	for _, api := range report.APIs {
		mapper.AddSpecific(api.GroupVersionKind, api.GroupVersion().WithResource(api.Plural), api.GroupVersion().WithResource(api.Plural), apimeta.RESTScopeRoot)
	}
	live, err := client.New(mgr.GetConfig(), client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mapper})
	if err != nil {
		return err
	}
	r.Live, r.Applier.Client = live, live
	r.looked, r.told = map[string]look{}, map[string]problem{}
	r.Managements.Remembered = r.remembered
	return r.SetupWithManager(mgr)
}

// SetupWithManager has a baseline's report looked at when its status changes, when its management was judged otherwise, and when an API
// of reports comes.
func (r *ReportReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("report").
		WithOptions(options(false)).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, &handler.EnqueueRequestForObject{}).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			addBaselines(ctx, r.Cache, q, r.Platform.reports.changed.subscribe())
			addBaselines(ctx, r.Cache, q, r.Managements.judged.subscribe())
			return nil
		})).
		Complete(r)
}
