// Mounts its children when they scroll into view, and keeps their place until then.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** `height`: px, as long as it has not been seen. */
export function LazyMount(props: { height: number; children: () => ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    if (seen || box.current === null) return undefined;
    const watcher = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true),
      { rootMargin: "300px" },
    );
    watcher.observe(box.current);
    return () => watcher.disconnect();
  }, [seen]);
  return (
    <div ref={box} class="lazy-mount" style={seen ? {} : { minHeight: `${props.height}px` }}>
      {seen && props.children()}
    </div>
  );
}
